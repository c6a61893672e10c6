"""Checks that every mechanism must pass: each claim of its capabilities, and general rules.

`forms` builds a mechanism to be watched, `check` says what a check is and what it may end as,
`tolerances` is the one table of how close is close enough,
`suite` knows them all, `run` turns them into badges. The checks themselves lie one family to a
file. The pytest suite runs the same checks, one case to a test.
"""

from __future__ import annotations
