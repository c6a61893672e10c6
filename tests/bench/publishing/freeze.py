"""`python -m tests.bench.publishing.freeze [folder]`: write the frozen pages again, from the store.

It says which pages changed and how; the commit that it is run for says so too, and why. The store
has one of everything that a page can show. With a folder, the files there replace it: unpack it
with `unpacked_store`, change it and name it here.
"""

import difflib
import gzip
import shutil
import sys
import tempfile
from collections.abc import Mapping
from itertools import islice
from pathlib import Path

from tests.bench.publishing.outputs import outputs

FROZEN = Path(__file__).parent / "frozen"
STORE, PAGES = FROZEN / "store", FROZEN / "pages"
COMMAND = "python -m tests.bench.publishing.freeze"
MAX_BYTES = 3_000_000
"""The most that all frozen files may take together in git."""
NUM_LINES, NUM_COLUMNS = 24, 240
"""How much of a difference is shown."""


def unpacked_store(out: Path) -> Path:
    """Write the frozen store into a folder, and return that."""
    for name, content in stored(STORE).items():
        path = out / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return out


def stored(folder: Path) -> dict[str, bytes]:
    """Frozen files of a folder, by their path there."""
    return {
        path.relative_to(folder).as_posix().removesuffix(".gz"): gzip.decompress(path.read_bytes())
        for path in sorted(folder.rglob("*.gz"))
    }


def differences(frozen: Mapping[str, bytes], made: Mapping[str, str]) -> list[str]:
    """A short unified diff of each page that differs, in the order of their names."""
    told = []
    for name in sorted(frozen.keys() | made.keys()):
        before, after = frozen.get(name, b""), made.get(name, "").encode()
        if before != after:
            told.append(_difference(name, before.decode(), after.decode()))
    return told


def _difference(name: str, before: str, after: str) -> str:
    lines = difflib.unified_diff(
        before.split("\n"), after.split("\n"), f"frozen/{name}", f"made/{name}", lineterm="", n=1
    )
    return "\n".join(_windows(list(islice(lines, NUM_LINES))))


def _windows(lines: list[str]) -> list[str]:
    """A diff with long lines cut to what lies about their first change: some have 100,000 letters.

    The first line that went is compared with the first that came, and so on.
    """
    by_sign = {sign: [line for line in lines[2:] if line[0] == sign] for sign in "-+"}
    starts = {
        line: max(1, _num_alike(pair) - NUM_COLUMNS // 4)
        for pair in zip(by_sign["-"], by_sign["+"], strict=False)
        for line in pair
        if len(line) > NUM_COLUMNS
    }
    return [
        line[:1] + "..." * ((at := starts.get(line, 1)) > 1) + line[at : at + NUM_COLUMNS]
        for line in lines
    ]


def _num_alike(pair: tuple[str, str]) -> int:
    """Characters that two lines begin with alike, their signs aside."""
    before, after = pair
    ends = (i for i in range(1, min(map(len, pair))) if before[i] != after[i])
    return next(ends, min(map(len, pair)))


def write(folder: Path, contents: Mapping[str, bytes]) -> None:
    """Replace what is frozen in a folder; the same contents give the same files."""
    shutil.rmtree(folder, ignore_errors=True)
    for name, content in contents.items():
        path = folder / f"{name}.gz"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(gzip.compress(content, 9, mtime=0))


def main(words: list[str]) -> int:
    """Write what is frozen again; returns the exit code."""
    if len(words) > 1:
        print(__doc__)
        return 2
    for folder in words:
        files = [path for path in sorted(Path(folder).rglob("*")) if path.is_file()]
        write(STORE, {path.relative_to(folder).as_posix(): path.read_bytes() for path in files})
    with tempfile.TemporaryDirectory() as folder:
        made = outputs(unpacked_store(Path(folder)))
    told = differences(stored(PAGES), made)
    if told:
        write(PAGES, {name: text.encode() for name, text in made.items()})
    print("\n\n".join([*told, f"{len(told)} of {len(made)} pages changed."]))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
