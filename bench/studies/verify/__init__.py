"""`attnbench verify`: prove mechanisms against their authors' numbers, or what they claim.

`settings` says what was asked for. Then one file for each kind of proof: what it takes, what it
shows and writes, and its exit code: `outputs`, and by a key each `flops`, `conformance` and
`numerics`. The proofs themselves are in `bench.studies.golden.proof` and in the packages of these
names.
"""
