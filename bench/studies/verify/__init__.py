"""`attnbench verify`: prove mechanisms by the checks of `attentions.testing`, which pytest runs.

`settings` says what is asked for, `tester` runs pytest, and `command` shows and stores the results:
rows of golden cases and of FLOP formulas, badges, and the proofs that come with the code (`keep`).
"""
