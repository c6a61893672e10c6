"""Write the pages of docs/ that follow from stored records: `make studies-pages`.

They are those of docs/results/pages.yaml, and `COMMAND_PAGES`, which a command of their own writes.
Pages that are named, or all of them. With check=true nothing is written: a page or picture that is
not what its records give is named, and the exit code is 1.
"""

from __future__ import annotations

import importlib
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

from bench.core.cli.command import read_yaml
from bench.core.cli.errors import ConfigError, did_you_mean, print_error
from bench.core.cli.values import run_words, words_and_options
from bench.core.format import quantity
from bench.core.settings import Folder, Name, Settings, Some

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "docs" / "results"
USAGE = "python -m tools.studies_pages [PAGE ...] [check=true]"

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
    title: str = ""
    """Its heading, by which lists and searches tell pages apart; only if its writer takes one."""

    @property
    def folder(self) -> Path:
        """Folder of the page."""
        return FOLDER

    def write(self, path: Path) -> list[Path]:
        """Write the page, and its pictures into the folder of its name; returns their paths.

        Raises:
            ConfigError: there are no records.
        """
        writer: Writer = importlib.import_module(self.writer).write_page
        more = {"notes": self.notes, "title": self.title}
        more = {name: value for name, value in more.items() if value}
        return writer(ROOT / self.store, path, self.command.strip(), self.tasks, **more)


@dataclass(frozen=True)
class CommandPage:
    """A page that a command writes.

    Attributes:
        store: of its records, for messages.
        folder: that holds it.
        write: writes the page and its pictures to a path; returns their paths.
    """

    store: str
    folder: Path
    write: Callable[[Path], list[Path]]


def _reproductions(path: Path) -> list[Path]:
    from bench.studies.reproduce.page import write_page
    from bench.studies.reproduce.papers import read_papers

    with redirect_stdout(StringIO()):
        write_page(read_papers(), ROOT / "results" / "reproductions", path.parent, is_check=False)
    return [path, *sorted(path.with_suffix("").glob("*.svg"))]


ADVICE = ("seq_len=[1024,4096,8192]", "mode=[forward,decode]", "task=recall_causal", "score=95")
"""Question that docs/results/advice.md answers."""


def _advice(path: Path) -> list[Path]:
    from bench.advise import main

    with redirect_stdout(StringIO()):
        code = main([*ADVICE, f"page={path}"])
    if code:
        raise ConfigError("attnbench advise did not answer; what it printed above says why.")
    return [path]


def _speed(path: Path) -> list[Path]:
    from bench.core.store import read_records
    from bench.publishing.speed import RUNTIMES, with_runtimes

    page = (ROOT / "docs" / "speed.md").read_text()
    path.write_text(with_runtimes(page, read_records(RUNTIMES, missing_ok=True)))
    return [path]


COMMAND_PAGES = {
    "reproductions": CommandPage("results/reproductions", ROOT / "docs", _reproductions),
    "advice": CommandPage("results/", FOLDER, _advice),
    "speed": CommandPage("results/runtimes", ROOT / "docs", _speed),
}


def read_pages(file: Path = FOLDER / "pages.yaml") -> dict[str, Page]:
    """The pages by name.

    Raises:
        ConfigError: one has a key that is unknown, or lacks one.
    """
    return {name: Page.section(own, name) for name, own in read_yaml(file).items()}


def changed(name: str, page: Page | CommandPage, folder: Path | None = None) -> Iterator[str]:
    """Files of a page that are not what its records give.

    Raises:
        ConfigError: there are no records.
    """
    folder = folder or page.folder
    with tempfile.TemporaryDirectory() as made:
        for file in page.write(Path(made) / f"{name}.md"):
            path = file.relative_to(made)
            kept = folder / path
            if not kept.is_file() or kept.read_bytes() != file.read_bytes():
                yield str(path)


def main(argv: list[str] | None = None) -> int:
    """Write the pages, or those named; with ``check=true`` only compare them."""
    return run_words(_main, argv, USAGE)


def _main(words: list[str]) -> int:
    names, options = words_and_options(words, ("check",), USAGE)
    is_check = options.get("check", "false")
    if is_check not in ("true", "false"):
        raise ConfigError(f"check={is_check}: check is true or false.")
    pages: dict[str, Page | CommandPage] = {**read_pages(), **COMMAND_PAGES}
    for name in names:
        if name not in pages:
            raise ConfigError(f"There is no page {name}. {did_you_mean(name, pages)}")
    code = 0
    for name, page in pages.items():
        if names and name not in names:
            continue
        try:
            if is_check == "true":
                found = list(changed(name, page))
                code = max(code, int(bool(found)))
                ended = f"not what {page.store} gives: {', '.join(found)}" if found else "as stored"
            else:
                ended = f"wrote {quantity(len(page.write(page.folder / f'{name}.md')), 'file')}"
        except ConfigError as error:
            code = print_error(ConfigError(f"{name}: {error}"))
        else:
            print(f"{name}: {ended}")
    return code


if __name__ == "__main__":
    sys.exit(main())
