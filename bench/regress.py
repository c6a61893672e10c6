"""`attnbench regress`: say whether this tree is slower, or takes more, than another.

The other side is a commit (``base=``), or stored records (``baseline=``).
"""

from __future__ import annotations

import sys

from bench.core.cli.command import run_app
from bench.studies.gate.command import regress


def main(argv: list[str] | None = None) -> int:
    """The command; returns its exit code."""
    words = sys.argv[1:] if argv is None else argv
    return run_app("regress", regress, [_quoted(word) for word in words])


def _quoted(word: str) -> str:
    """Quote a git ref or a path: Hydra's grammar has no ``~`` and reads digits as a number."""
    key, equals, value = word.partition("=")
    is_plain = value not in ("", "null") and value[0] not in "'\""
    if not equals or key not in ("base", "baseline", "current") or not is_plain:
        return word
    return key + "='" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"


if __name__ == "__main__":
    raise SystemExit(main())
