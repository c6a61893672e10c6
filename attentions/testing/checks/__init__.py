"""Checks by family: each file is found by itself, and its functions are entered by `check`."""
