"""Command line of modules that write pages of docs/: write them, or check that they are current."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from bench.core.cli.errors import ConfigError
from bench.core.cli.files import write_whole
from bench.core.cli.values import flag_of, run_words, words_and_options
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
        plain, options = words_and_options(words, ("out", "check"), usage)
        if plain:
            raise ConfigError(f"{plain[0]} is not known. Usage: {usage}")
        out, is_check = Path(options.get("out", CHECKOUT / "docs")), flag_of(options, "check")
        try:
            pages = {out / name: text for name, text in make().items()}
        except ImportError as error:
            raise ConfigError(str(error)) from error
        if is_check:
            return report_old(pages, f"python -m {command}")
        for path, text in pages.items():
            print(write_whole(path, text))
        return 0

    return run_words(write, argv, usage)


def report_old(pages: Mapping[Path, str], command: str) -> int:
    """Print which files do not hold these texts, and the command that writes them; 1 if any."""
    # Bytes that are not UTF-8 become lone surrogates, which no text of a page equals.
    now = {p: p.read_text("utf-8", "surrogateescape") for p in pages if p.is_file()}
    old = [path for path, text in pages.items() if now.get(path) != text]
    for path in old:
        print(f"{path} is not what its sources say. Run {command}.")
    return int(bool(old))
