"""Mechanisms that cheat or misbehave on purpose, and how the cell of each has to end.

`python -m tests.cheats`, or `make cheats`, prints how they and the others in their block ended.
"""
