"""Print the picture and the sizes that docs/architecture.md shows: `python tools/count.py`.

``--write`` puts them into the page.
"""

from __future__ import annotations

import ast
import json
import signal
import sys
import textwrap
from itertools import zip_longest
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # `python tools/count.py` has only this folder there

from bench.publishing.document import markdown_table  # noqa: E402
from tests.sources import (  # noqa: E402
    FLOORS,
    MODULES,
    floor_of,
    is_in,
    rooms_of,
)

THEN = Path(__file__).with_name("house_8a830c3b.json")
"""Counted in the same way in the commit of that name, its files assigned to the same rooms."""
PAGE = ROOT / "docs" / "architecture.md"
PACKAGES = ("bench", "attentions", "tests", "tools")


class Size(NamedTuple):
    """Number of files of a room, of their statements, and of their lines."""

    files: int = 0
    statements: int = 0
    lines: int = 0

    def __add__(self, other: Size) -> Size:  # type: ignore[override]
        return Size(*(a + b for a, b in zip(self, other, strict=True)))


def size_of(file: Path) -> Size:
    """Size of one file; imports and docstrings are not counted as statements."""
    source = file.read_text()
    statements = sum(
        isinstance(node, ast.stmt)
        and not isinstance(node, ast.Import | ast.ImportFrom)
        and not (isinstance(node, ast.Expr) and type(getattr(node.value, "value", None)) is str)
        for node in ast.walk(ast.parse(source))
    )
    return Size(1, statements, len(source.splitlines()))


def room_of(path: Path) -> str:
    """Room of a file by its path from the root: ``bench/studies/gate``, ``tests/bench``."""
    return "/".join(path.parts[:-1][: 3 if path.parts[0] == "bench" else 2])


def ledger(root: Path = ROOT) -> dict[str, Size]:
    """Sizes by room, each package's own sum first."""
    found: dict[str, Size] = {}
    for package in PACKAGES:
        files = sorted((root / package).rglob("*.py"))
        sizes = {file.relative_to(root): size_of(file) for file in files}
        found[package] = sum(sizes.values(), Size())
        for path, size in sizes.items():
            if (room := room_of(path)) != package:
                found[room] = found.get(room, Size()) + size
    return found


def beside_then() -> list[tuple[str, ...]]:
    """Rows of a room's statements, lines and files, each as the older commit had it and now."""
    then = {room: Size(*numbers) for room, numbers in json.loads(THEN.read_text()).items()}
    now = ledger()
    rows = []
    for room in sorted(then | now):
        was, has = then.get(room, Size()), now.get(room, Size())
        pairs = [(was.statements, has.statements), (was.lines, has.lines), (was.files, has.files)]
        rows.append((room, *(f"{a:,} → {b:,}" if a != b else f"{a:,}" for a, b in pairs)))
    return rows


def floors() -> dict[str, list[str]]:
    """Rooms of `bench` by floor, a folder with a slash behind its name."""
    found: dict[str, list[str]] = {floor: [] for floor in FLOORS}
    for room in sorted(rooms_of(MODULES)):
        name = room.rpartition(".")[2]
        if name == "__main__" or room == "bench" or room == f"bench.{floor_of(room)}":
            continue
        found[floor_of(room)].append(name + "/" * MODULES[room].is_package)
    return found


def below_floor(floor: str) -> list[str]:
    """Floors, and packages beside `bench`, that the modules of a floor import."""
    found = set()
    for module in MODULES.values():
        if is_in(module.name, "bench") and floor_of(module.name) == floor:
            names = {each.target for each in module.imports}
            found |= {floor_of(name) for name in names if name.startswith("bench.")} - {floor}
            found |= {"attentions" for name in names if is_in(name, "attentions")}
    return [name for name in (*FLOORS, "attentions") if name in found]


def picture() -> str:
    """The floors of `bench` from above to below: the rooms of each, and what it imports."""
    lines = []
    for floor, rooms in floors().items():
        if not rooms:
            continue
        words = textwrap.wrap(" ".join(rooms), 84, break_on_hyphens=False)
        lines += [f"{name:<12} {line}" for name, line in zip_longest([floor], words, fillvalue="")]
        lines += [f"{'':<12} → {', '.join(below_floor(floor)) or 'nothing'}", ""]
    return "\n".join(line.rstrip() for line in lines).rstrip()


def main() -> None:
    """Print picture and ledger; with ``--write`` put both into docs/architecture.md."""
    table = markdown_table(("room", "statements", "lines", "files"), beside_then(), "lrrr")
    print(f"```\n{picture()}\n```\n\n{table}")
    if "--write" in sys.argv[1:]:
        page = PAGE.read_text()
        before, _, rest = page.partition("```\n")
        page = f"{before}```\n{picture()}\n```{rest.partition(chr(10) + '```')[2]}"
        before, _, rest = page.partition("| room ")
        PAGE.write_text(f"{before}{table}\n{rest[rest.index(chr(10) * 2) + 1 :]}")


if __name__ == "__main__":
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # `| head` ends it without a traceback
    main()
