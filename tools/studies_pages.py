"""Write the pages of docs/results/pages.yaml from their stored records: `make studies-pages`.

With check=true nothing is written: a page or picture that is not what its records give is named,
and the exit code is 1.
"""

from __future__ import annotations

import importlib
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from bench.core.cli.command import read_yaml
from bench.core.cli.errors import ConfigError, print_error
from bench.core.format import quantity
from bench.core.settings import Folder, Name, Settings, Some

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "docs" / "results"

Writer = Callable[..., list[Path]]
"""Takes a store, the page's path, the command that trained, and tasks; returns what it wrote."""


class Page(Settings):
    """A page of docs/results, under its file's name without the ending."""

    store: Folder
    """Folder of the records, from the repository's root."""
    writer: Name
    """Module with a function ``write_page(store, page, command, tasks)``."""
    command: str
    """Commands that trained the records, one a line, as the page shows them."""
    tasks: Some[Name] = ()
    """Tasks to show, in this order; all if there are none."""
    notes: Some[str] = ()
    """Sentences that a reader must know, below the command; only if its writer takes ``notes``."""

    def write(self, path: Path) -> list[Path]:
        """Write the page, and its pictures into the folder of its name; returns their paths.

        Raises:
            ConfigError: there are no records.
        """
        writer: Writer = importlib.import_module(self.writer).write_page
        more = {"notes": self.notes} if self.notes else {}
        return writer(ROOT / self.store, path, self.command.strip(), self.tasks, **more)


def read_pages(file: Path = FOLDER / "pages.yaml") -> dict[str, Page]:
    """The pages by name.

    Raises:
        ConfigError: one has a key that is unknown, or lacks one.
    """
    return {name: Page.section(own, name) for name, own in read_yaml(file).items()}


def changed(name: str, page: Page, folder: Path = FOLDER) -> Iterator[str]:
    """Files of a page that are not what its records give.

    Raises:
        ConfigError: there are no records.
    """
    with tempfile.TemporaryDirectory() as made:
        for file in page.write(Path(made) / f"{name}.md"):
            path = file.relative_to(made)
            kept = folder / path
            if not kept.is_file() or kept.read_bytes() != file.read_bytes():
                yield str(path)


def main(argv: Sequence[str]) -> int:
    """Write the pages, or those named; with ``check=true`` only compare them."""
    is_check = "check=true" in argv
    names = [word for word in argv if "=" not in word]
    code = 0
    for name, page in read_pages().items():
        if names and name not in names:
            continue
        try:
            if is_check:
                found = list(changed(name, page))
                code = max(code, int(bool(found)))
                words = f"not what {page.store} gives: {', '.join(found)}" if found else "as stored"
            else:
                words = f"wrote {quantity(len(page.write(FOLDER / f'{name}.md')), 'file')}"
        except ConfigError as error:
            code = print_error(ConfigError(f"{name}: {error}"))
        else:
            print(f"{name}: {words}")
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
