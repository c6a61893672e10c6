"""The harness under attack: killed, crowded, out of disk, misused, with damaged records.

`python -m tests.torture`, or `make torture`, does it all and stores what came of it. A part takes a
number of trials, and the random draws of a seed; of each trial it says what was done and, if
something was not as docs/reliability.md promises, what.
"""
