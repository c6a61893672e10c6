"""Errors of narrow dtypes against float64, and what comes out of inputs that are hard.

`cases` makes the inputs, `measure` runs a mechanism on them, `official` runs the authors' operators
beside it, `store` keeps what was seen, `page` writes docs/numerics.md from that alone.
"""

from __future__ import annotations
