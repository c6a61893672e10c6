"""What is measured at once: units, each written down as a whole."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from bench.cell import Cell
from bench.measure.stopping import Stopping

FORMS, SOFTMAX, THREADS, SAVED = "forms", "softmax", "threads", "saved"
"""Parts: our forms beside the others, our forms beside softmax, our forms with several threads
beside themselves with one, and bytes kept for backward."""

ONE_THREAD = "1 thread"
"""Added to an entry's label where it is a member with one thread beside itself with several."""


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a comparison holds: all but the mechanism."""

    scope: str
    causal: bool
    seq_len: int
    mode: str
    num_threads: int
    allocator: str


@dataclass(frozen=True, kw_only=True)
class Unit:
    """Members that share rounds, in one process or in several, one after the other.

    Attributes:
        part: see `FORMS`.
        cells: in pairs of our form and the other, or of many threads and one; or our forms, and the
            yardstick last.
        num_processes: each with all members, built anew, and rounds of its own.
        stopping: of the rounds of each.
        expected_s: wall time, as a guess.
    """

    part: str
    place: Place
    cells: tuple[Cell, ...]
    num_processes: int = 1
    stopping: Stopping
    expected_s: float

    @property
    def id(self) -> tuple[Any, ...]:
        """What it is, as its line in the data has it."""
        return id_of(self.to_dict())

    def describe(self) -> str:
        """A few words for a progress line."""
        at = self.place
        threads = f"{at.num_threads} thread{'s' if at.num_threads > 1 else ''}"
        kind = f"{'causal ' if at.causal else ''}{at.scope}"
        return f"{self.part} {kind} N={at.seq_len} {at.mode} {threads} {at.allocator}"

    def to_dict(self) -> dict[str, Any]:
        """As written to the data, whose session says how its entries are set."""
        return {
            "part": self.part,
            "place": asdict(self.place),
            "members": [cell.entry for cell in self.cells],
        }


def id_of(line: dict[str, Any]) -> tuple[Any, ...]:
    """The unit that a line of data is about."""
    return (line["part"], tuple(sorted(line["place"].items())), tuple(line["members"]))
