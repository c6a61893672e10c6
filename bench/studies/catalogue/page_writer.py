"""Command line of modules that write pages of docs/: write them, or check that they are current."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from bench.core.cli.errors import ConfigError
from bench.core.cli.files import write_whole
from bench.core.cli.values import run_words, words_and_options
from bench.core.places import CHECKOUT

_USAGE = """python -m {command} [out=DIR] [check=true]
  out: the folder that gets the pages (docs of this checkout)
  check: write nothing; 1 if a page is not what would be written"""


def write_pages(
    command: str, make: Callable[[], Mapping[str, str]], argv: list[str] | None = None
) -> int:
    """Write pages, or say which of them are old.

    Args:
        command: the module that is run, for messages.
        make: gives file name -> text; its ImportError becomes a ConfigError.
        argv: words of the command line; those of this process unless given.

    Returns:
        The exit code.
    """
    usage = _USAGE.format(command=command)

    def write(words: list[str]) -> int:
        out, check = read_words(words, usage)
        try:
            pages = {out / name: text for name, text in make().items()}
        except ImportError as error:
            raise ConfigError(str(error)) from error
        if check:
            return _report_old(pages, command)
        for path, text in pages.items():
            print(write_whole(path, text))
        return 0

    return run_words(write, argv, usage)


def read_words(words: Sequence[str], usage: str) -> tuple[Path, bool]:
    """Read the output folder, and whether only to check.

    Raises:
        ConfigError: a word that is not known, or a value that it cannot have.
    """
    plain, options = words_and_options(words, ("out", "check"), usage)
    if plain:
        raise ConfigError(f"{plain[0]} is not known. Usage: {usage}")
    docs = CHECKOUT / "docs"
    said = {"out": str(docs), "check": "false"} | options
    if said["check"] not in ("true", "false"):
        raise ConfigError(f"check={said['check']}: check is true or false.")
    return Path(said["out"]), said["check"] == "true"


def _report_old(pages: Mapping[Path, str], command: str) -> int:
    old = [path for path, text in pages.items() if not _holds(path, text)]
    for path in old:
        print(f"{path} is not what its sources say. Run python -m {command}.")
    return int(bool(old))


def _holds(path: Path, text: str) -> bool:
    return path.is_file() and path.read_text(encoding="utf-8") == text
