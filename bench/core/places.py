"""Folders of the package and its YAMLs: ``conf`` of a checkout, ``bench/conf`` of a wheel."""

from __future__ import annotations

from pathlib import Path

import bench

PACKAGE = Path(bench.__file__).resolve().parent
CHECKOUT = PACKAGE.parent
"""Root of the checkout, with docs/ and results/; of a wheel, the folder it is installed in."""

_PACKED = PACKAGE / "conf"
CONF = _PACKED if _PACKED.is_dir() else CHECKOUT / "conf"
