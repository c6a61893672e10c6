"""`attnbench verify`: prove mechanisms against their authors' numbers, or what they claim.

`settings` says what was asked for. `outputs` and `command` have what each kind of proof takes,
shows and writes, and its exit code: outputs, and by a key each FLOPs, conformance and numerics. The
proofs themselves are in `bench.studies.golden.proof`, `bench.measuring.costs` and the packages of
these names.
"""
