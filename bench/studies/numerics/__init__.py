"""Errors of narrow dtypes against float64, and where outputs stop being finite.

`measure` runs a mechanism, ours or the authors' operators; `page` keeps the findings, and writes
docs/numerics.md from those alone.
"""

from __future__ import annotations
