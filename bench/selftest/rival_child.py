"""What a rival's process times: cells as they are, and slowed down; then torch's Timer itself.

Calls are handed out in bunches. A slowdown of 5 % that sat in every twentieth call would be missed
by any median over single calls; in a bunch of twenty, every sample has its full size.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

ITEMS = "ATTNBENCH_RIVAL_ITEMS"
"""The variable that names the items: JSON, a list of objects with ``name``, ``cell``, ``extra``."""

BUNCH = 20


@dataclass(frozen=True, kw_only=True)
class Item:
    """One thing to time.

    Attributes:
        call: runs a cell `BUNCH` times, and as often more as it is slower.
    """

    name: str
    call: Callable[[], None]


def items() -> list[Item]:
    """What the parent asks for, built."""
    import torch

    from bench.cell import Cell
    from bench.subject import Subject

    torch.set_num_threads(1)
    built: dict[str, Subject] = {}
    found = []
    for asked in json.loads(os.environ[ITEMS]):
        cell = Cell.from_dict(asked["cell"])
        if cell.key not in built:
            built[cell.key] = Subject(cell)
            built[cell.key].rotate()
        call = in_bunches(built[cell.key].call, BUNCH + asked["extra"])
        found.append(Item(name=asked["name"], call=call))
    return found


def in_bunches(call: Callable[[], Any], count: int) -> Callable[[], None]:
    """One call that makes many."""

    def bunch() -> None:
        for _ in range(count):
            call()

    return bunch


def main() -> int:
    """Write the median seconds of each item, by torch's Timer, to a file as JSON."""
    from torch.utils.benchmark import Timer

    out, budget_s = sys.argv[1:]
    medians = {}
    for item in items():
        timer = Timer("call()", globals={"call": item.call})
        medians[item.name] = timer.blocked_autorange(min_run_time=float(budget_s)).median
    with open(out, "w") as file:
        json.dump(medians, file)
    return 0


if __name__ == "__main__":
    sys.exit(main())
