"""The console script `attnbench`, also as `python -m attnbench`.

Other projects have folders named bench or attentions, too. Run in one of them, or with
``PYTHONPATH=.``, Python would import theirs, so this module puts its own location first. Workers
get the same search path.
"""

from __future__ import annotations

import sys
from pathlib import Path

HERE = str(Path(__file__).resolve().parent)


def main() -> int:
    """Run the command that the first word names."""
    sys.path[:] = [HERE, *(path for path in sys.path if path != HERE)]
    from bench.__main__ import main as run_command

    return run_command()


if __name__ == "__main__":
    sys.exit(main())
