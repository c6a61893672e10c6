"""Test vectors of five families for implementations elsewhere: inputs, results, wrong formulas.

``<family>.json`` has conventions and cases, ``<family>.safetensors`` the numbers, `formulas` the
formulas in numpy. `make` writes the numbers; docs/vectors.md says how to read them.
"""
