"""Record what code gives as golden files: `python tools/make_golden.py FILE golden=DIR`.

FILE is a Python file with a function `cases` that yields `bench.studies.golden.record.Case`s. It
needs whatever it imports, such as the authors' repository on PYTHONPATH. Afterwards
`python -m bench.verify golden=DIR` compares our mechanism with what was recorded.
See docs/proving-a-mechanism.md.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

from bench.core.cli.errors import ConfigError
from bench.studies.golden.record import Case, record

USAGE = "python tools/make_golden.py FILE golden=DIR"


def main(argv: list[str]) -> int:
    """Record every case of the file; returns the exit code."""
    try:
        file, folder = read_words(argv)
        for case in cases_of(file)():
            print(record(case, folder))
    except ConfigError as error:
        print(f"ConfigError: {error}", file=sys.stderr)
        return 2
    print(f"\nCompare with them: python -m bench.verify golden={folder}")
    return 0


def read_words(words: list[str]) -> tuple[Path, Path]:
    """Read the file of cases and the folder of goldens off the command line.

    Raises:
        ConfigError: one of them is missing, or something else was given.
    """
    files = [word for word in words if "=" not in word]
    folders = [word.removeprefix("golden=") for word in words if word.startswith("golden=")]
    if len(files) != 1 or len(folders) != 1 or len(words) != 2 or not folders[0]:
        raise ConfigError(f"{' '.join(words) or 'Nothing'} was given. Usage: {USAGE}")
    return Path(files[0]), Path(folders[0])


def cases_of(file: Path) -> Callable[[], Iterable[Case]]:
    """Import a file and find its function.

    Raises:
        ConfigError: there is no such file, or no function `cases` in it.
    """
    spec = importlib.util.spec_from_file_location(file.stem, file)
    if not file.is_file() or spec is None or spec.loader is None:
        raise ConfigError(f"{file} is no Python file. Usage: {USAGE}")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    cases: Callable[[], Iterable[Case]] | None = getattr(module, "cases", None)
    if cases is None:
        raise ConfigError(f"{file} has no function cases; it yields the Cases to record.")
    return cases


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
