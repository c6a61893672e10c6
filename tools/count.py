"""Print the picture and the sizes that docs/architecture.md shows: `python tools/count.py`."""

from __future__ import annotations

import json
import sys
import textwrap
from collections import Counter
from collections.abc import Iterable
from itertools import zip_longest
from pathlib import Path
from types import FrameType
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # `python tools/count.py` has only this folder there

from bench.publishing.document import markdown_table  # noqa: E402
from tests.sources import (  # noqa: E402
    FLOORS,
    MODULES,
    arrows_upwards,
    circles_of_rooms,
    floor_of,
    is_in,
    rooms_of,
)

THEN = Path(__file__).with_name("house_64691b0.json")
"""Counted in the same way in the commit of that name, its files sorted into today's floors."""
MACHINERY = ("attentions/kernel/*.py", "attentions/published/*.py", "attentions/precision.py")


def entered(mechanism: str) -> list[Path]:
    """Files of `attentions` whose functions one forward call of a mechanism runs."""
    import torch

    import attentions

    geometry = attentions.Geometry(num_heads=2, head_dim=16, seq_len=64, causal=False)
    module = attentions.build_attention(mechanism, geometry)
    q, k, v = torch.randn(3, 1, 2, 64, 16)
    module(q, k, v)  # what is imported or built once is not part of a call
    files: set[Path] = set()

    def trace(frame: FrameType, event: str, _: object) -> None:
        files.add(Path(frame.f_code.co_filename))

    sys.setprofile(trace)
    module(q, k, v)
    sys.setprofile(None)
    return sorted(file for file in files if ROOT / "attentions" in file.parents)


def lines(files: Iterable[Path]) -> int:
    """Number of lines of all files together."""
    return sum(len(file.read_text().splitlines()) for file in files)


def below(folder: str, ending: str = "py") -> int:
    """Lines of a folder's files."""
    return lines((ROOT / folder).rglob(f"*.{ending}"))


def at_the_top(package: str) -> int:
    """Files of a package that lie in no room of it."""
    return sum(not file.name.startswith("__") for file in (ROOT / package).glob("*.py"))


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


def house() -> dict[str, Any]:
    """Rooms, arrows between them, and lines by floor and by study, as they are now."""
    arrows = rooms_of(MODULES)
    by_floor, by_study = Counter[str](), Counter[str]()
    for module in MODULES.values():
        if not is_in(module.name, "bench"):
            continue
        size, floor = len(module.source.splitlines()), floor_of(module.name)
        by_floor[floor] += size
        if floor == "studies" and module.name.count(".") > 1:
            by_study[module.name.split(".")[2]] += size
    return {
        "rooms": len(arrows),
        "arrows": sum(map(len, arrows.values())),
        "pairs": sum(a < b and a in arrows[b] for a in arrows for b in arrows[a]),
        "circles": len(circles_of_rooms(MODULES)),
        "upwards": len(arrows_upwards(MODULES)),
        "floors": {floor: by_floor[floor] for floor in FLOORS if by_floor[floor]},
        "studies": dict(sorted(by_study.items())),
    }


def beside_then() -> list[tuple[str, str, str]]:
    """Rows of words, the number of an older commit and that of now."""
    then, now = json.loads(THEN.read_text()), house()
    words = {
        "rooms": "rooms: folders of a floor, and files that lie in none",
        "arrows": "arrows between rooms",
        "pairs": "pairs of rooms that import each other",
        "circles": "circles of rooms",
        "upwards": "arrows upwards, by these floors",
    }
    rows = [(words[key], f"{then[key]:,}", f"{now[key]:,}") for key in words]
    for kind, whole in (("floors", "lines of bench"), ("studies", "lines of studies")):
        sums = [f"{sum(each[kind].values()):,}" for each in (then, now)]
        rows.append((whole, *sums))
        for name in dict.fromkeys([*then[kind], *now[kind]]):
            both = [f"{each[kind].get(name, 0):,}" for each in (then, now)]
            rows.append((f"– {name}", *both))
    return rows


def main() -> None:
    """Print picture and tables."""
    print(f"```\n{picture()}\n```\n")
    print(markdown_table(("", "64691b0", "now"), beside_then(), "lrr"), end="\n\n")
    nala = entered("nala")
    machinery = [file for pattern in MACHINERY for file in ROOT.glob(pattern)]
    halves = [f"{below(folder):,}" for folder in ("attentions", "bench", "tests")]
    rows = [
        ("files and lines that one `nala` call enters", f"{len(nala)}, {lines(nala):,}"),
        ("lines of kernel/, published/ and precision in attentions", f"{lines(machinery):,}"),
        (
            "lines of attentions / bench / tests / docs",
            " / ".join([*halves, f"{below('docs', 'md'):,}"]),
        ),
        (
            "files at the top of attentions / bench",
            f"{at_the_top('attentions')} / {at_the_top('bench')}",
        ),
    ]
    print(markdown_table(("", ""), rows, "lr"))


if __name__ == "__main__":
    main()
