"""Checks that every mechanism must pass: each claim of its capabilities, and general rules.

`forms` builds a mechanism and its inputs, `check` defines a check and its outcomes, `tolerances` is
the one table of allowed errors, `run` lists all claims and checks, and turns results into
badges. Each family of checks has a file. The pytest suite runs the same checks, one test per case.
"""

from __future__ import annotations
