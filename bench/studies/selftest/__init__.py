"""How far the gate can be trusted on this machine, and what other tools would have said.

The gate compares this tree with itself, unchanged and slowed down by known amounts, on an idle
machine and next to a busy process; two other tools get the same time for the same question. Each
trial is one line of JSON under ``results/selftest``, and ``docs/selftest.md`` follows from these
lines alone.
"""
