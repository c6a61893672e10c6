"""The harness under attack: killed, crowded, out of disk, misused, with damaged records.

`python -m tests.torture`, or `make torture`, runs all parts and stores the results. A part takes a
number of trials and a seeded random generator; for each trial it yields what was done and, if
docs/reliability.md promises otherwise, what went wrong.
"""
