"""Record golden files: ``python -m attentions.testing.record FILE golden=DIR``.

FILE is a Python file with a function ``cases`` that yields `Case`s. It needs whatever it imports,
such as the authors' repository on PYTHONPATH. Afterwards, ``pytest --pyargs attentions.testing
--attention NAME --attention-goldens DIR`` compares a mechanism with what was recorded.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

from .authors.record import CannotRecord, Case, record

__all__ = ["CannotRecord", "Case", "record"]

USAGE = "python -m attentions.testing.record FILE golden=DIR"


def main(argv: list[str]) -> int:
    """Record every case of the file; returns the exit code."""
    try:
        file, folder = read_words(argv)
        for case in cases_of(file)():
            print(record(case, folder))
    except CannotRecord as error:
        print(f"CannotRecord: {error}", file=sys.stderr)
        return 2
    return 0


def read_words(words: list[str]) -> tuple[Path, Path]:
    """Read the file of cases and the folder of goldens off the command line.

    Raises:
        CannotRecord: one of them is missing, or something else was given.
    """
    files = [word for word in words if "=" not in word]
    folders = [word.removeprefix("golden=") for word in words if word.startswith("golden=")]
    if len(files) != 1 or len(folders) != 1 or len(words) != 2 or not folders[0]:
        raise CannotRecord(f"{' '.join(words) or 'Nothing'} was given. Usage: {USAGE}")
    return Path(files[0]), Path(folders[0])


def cases_of(file: Path) -> Callable[[], Iterable[Case]]:
    """Import a file and find its function.

    Raises:
        CannotRecord: there is no such file, or no function `cases` in it.
    """
    spec = importlib.util.spec_from_file_location(file.stem, file)
    if not file.is_file() or spec is None or spec.loader is None:
        raise CannotRecord(f"{file} is not a Python file. Usage: {USAGE}")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    cases: Callable[[], Iterable[Case]] | None = getattr(module, "cases", None)
    if cases is None:
        raise CannotRecord(f"{file} has no function cases; it yields the Cases to record.")
    return cases


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
