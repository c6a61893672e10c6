"""Write the six novels of Jane Austen as one text: `python -m bench.studies.text.novels FILE`.

They are in Debian's package r-cran-janeaustenr, in R's own format, which `rdata` reads:

    apt-get install r-cran-janeaustenr; pip install 'attnbench[text]'
    python -m bench.studies.text.novels results/text/novels.txt

Without the right to install, `apt-get download r-cran-janeaustenr` and `dpkg -x *.deb FOLDER` do;
then FOLDER/usr/lib/R/site-library/janeaustenr/data is a second word of the command.
"""

from __future__ import annotations

import gzip
import sys
import warnings
import zlib
from pathlib import Path
from typing import Any

from bench.core.cli.errors import ConfigError
from bench.core.cli.files import write_whole
from bench.core.cli.values import run_words

FOLDER = Path("/usr/lib/R/site-library/janeaustenr/data")
NOVELS = (
    *("sensesensibility", "prideprejudice", "mansfieldpark", "emma"),
    *("northangerabbey", "persuasion"),
)
"""In the order of their publication: the last tenth, which is tested on, is from *Persuasion*."""
USAGE = "python -m bench.studies.text.novels FILE [FOLDER]"

_LENGTH_BYTES = 4
"""Bytes before each object of an R database, which hold its unpacked size."""


def novels(folder: Path = FOLDER) -> str:
    """The six novels as one text, with their line breaks.

    Raises:
        ConfigError: rdata is not installed, or the folder does not hold the novels.
    """
    try:
        import rdata
    except ImportError as error:
        raise ConfigError("rdata is not installed: pip install 'attnbench[text]'") from error

    def read(content: bytes) -> Any:
        with warnings.catch_warnings(action="ignore"):  # it guesses right that this is RDS
            return rdata.conversion.convert(rdata.parser.parse_data(content))

    try:
        places = read(gzip.decompress((folder / "Rdata.rdx").read_bytes()))["variables"]
        database = (folder / "Rdata.rdb").read_bytes()
        texts = []
        for name in NOVELS:
            start, size = map(int, places[name])
            lines = read(zlib.decompress(database[start + _LENGTH_BYTES : start + size]))
            texts.append("\n".join(map(str, lines)).strip("\n"))
    except (OSError, EOFError, LookupError, ValueError, zlib.error) as error:
        why = getattr(error, "strerror", None) or f"{type(error).__name__}: {error}"
        raise ConfigError(
            f"{folder} does not hold the novels ({why}). Install Debian's "
            f"r-cran-janeaustenr, or name the folder with Rdata.rdb. Usage: {USAGE}"
        ) from error
    return "\n\n".join(texts) + "\n"


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns its exit code."""

    def write(words: list[str]) -> int:
        if not 1 <= len(words) <= 2:
            raise ConfigError(f"{len(words)} words are given. Usage: {USAGE}")
        file, folder = Path(words[0]), Path(words[1]) if len(words) > 1 else FOLDER
        text = novels(folder)
        print(f"wrote {write_whole(file, text)}: {len(text.encode()):,} bytes")
        return 0

    return run_words(write, argv, USAGE)


if __name__ == "__main__":
    sys.exit(main())
