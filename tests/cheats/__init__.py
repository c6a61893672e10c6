"""Mechanisms that cheat or misbehave on purpose, and what has to become of each.

`python -m tests.cheats`, or `make cheats`, prints what became of them and of their neighbours.
"""
