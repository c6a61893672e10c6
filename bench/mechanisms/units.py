"""What is to be measured: units that are written down as a whole, the cheap ones first."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch

from bench.cell import Cell, KernelWorkload
from bench.config import AttentionEntry
from bench.measure.stopping import Stopping
from bench.mechanisms.config import MechanismsConfig
from bench.mechanisms.forms import SWITCH, Pair, pairs_of, softmax
from bench.mechanisms.needs import needs_of

FORMS, SOFTMAX, SAVED = "forms", "softmax", "saved"
"""Parts: our forms beside the others, our forms beside softmax, and bytes kept for backward."""

_START_S = 0.3
"""A member before it is called: built, with its inputs."""

_FLOPS_PER_S = 6e10
_ELEMENT_S = {"official": 2.5e-8}
_OUR_ELEMENT_S = 0.8e-8
"""A modest core on products, and on one element of q in all element-wise steps. Guesses: they are
printed, weigh the progress bar, and say where softmax gets fewer rounds."""

_NUM_WARMUPS = 2
_MAX_SETS_BYTES = 64 * 2**20
"""Of inputs that a member holds, unless one set is more; see `bench.subject`."""


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
    """One process, and the members that share its rounds.

    Attributes:
        part: see `FORMS`.
        cells: in pairs of our form and the other; or our forms, and the yardstick last.
        stopping: of the rounds.
        expected_s: wall time, as a guess.
    """

    part: str
    place: Place
    cells: tuple[Cell, ...]
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


def plan_units(config: MechanismsConfig, memory_bytes: int) -> tuple[Unit, ...]:
    """All units, short sequences first, so that a run that is cut short has whole columns.

    Args:
        config: what was asked for.
        memory_bytes: what the machine has; members whose inputs take more than a third of it do
            not share a process.

    Raises:
        ConfigError: an entry that is unknown, or has one form only.
    """
    units = []
    for causal in config.causal:
        pairs = list(pairs_of(config.attention, causal=causal))
        for scope in ("core", "layer"):
            of_scope = [pair for pair in pairs if pair.scope == scope]
            units += [
                unit
                for place in _places(config, scope, causal)
                for unit in _units_at(place, of_scope, config, memory_bytes)
            ]
    return tuple(sorted(units, key=lambda unit: unit.place.seq_len))


def _places(config: MechanismsConfig, scope: str, causal: bool) -> Iterator[Place]:
    axes = (config.seq_len, config.mode, config.num_threads, config.allocator)
    first = (config.num_threads[0], config.allocator[0])
    longest = config.everywhere_up_to
    for seq_len, mode, num_threads, allocator in itertools.product(*axes):
        if longest is not None and seq_len > longest and (num_threads, allocator) != first:
            continue
        yield Place(
            scope=scope,
            causal=causal,
            seq_len=seq_len,
            mode=mode,
            num_threads=num_threads,
            allocator=allocator,
        )


def _units_at(
    place: Place, pairs: Sequence[Pair], config: MechanismsConfig, memory_bytes: int
) -> Iterator[Unit]:
    longest = config.max_seq_len
    pairs = [p for p in pairs if place.seq_len <= longest.get(p.ours.label, place.seq_len)]
    size = max(1, int(memory_bytes / 3 / _held_bytes(place, config)))
    for group in _groups(pairs, max(1, size // 2)):
        members = [entry for pair in group for entry in (pair.ours, pair.other)]
        yield _unit(FORMS, place, members, config)
    for group in _groups(pairs, max(1, size - 1)):
        yield _unit(SOFTMAX, place, [*(pair.ours for pair in group), softmax()], config)
    # Neither threads nor the allocator change what is kept.
    is_first = (place.num_threads, place.allocator) == (config.num_threads[0], config.allocator[0])
    if pairs and is_first and place.mode == "forward_backward":
        yield _unit(SAVED, place, [pair.ours for pair in pairs], config)


def _groups(pairs: Sequence[Pair], size: int) -> Iterable[Sequence[Pair]]:
    return (pairs[start : start + size] for start in range(0, len(pairs), size))


def _held_bytes(place: Place, config: MechanismsConfig) -> int:
    """What a member's inputs take while others are timed."""
    shape = config.shape
    per_tensor = shape.batch_size * place.seq_len * shape.num_heads * shape.head_dim
    one_set = 4 * per_tensor * torch.empty(0, dtype=getattr(torch, shape.dtype)).element_size()
    return max(one_set, min(_MAX_SETS_BYTES, 4 * one_set))


def _unit(
    part: str, place: Place, entries: Sequence[AttentionEntry], config: MechanismsConfig
) -> Unit:
    cells = tuple(_cell(entry, place, config) for entry in entries)
    calls_s = [_call_s(cell) for cell in cells]
    if part == SAVED:
        expected = sum(calls_s) / 3 + _START_S * len(cells)
        return Unit(part=part, place=place, cells=cells, stopping=Stopping(), expected_s=expected)
    stopping = _stopping(part, calls_s[-1], config)
    budget = stopping.budget_s * len(cells)
    rounds = min(stopping.max_rounds, max(stopping.min_rounds, budget / sum(calls_s)))
    expected = (_NUM_WARMUPS + rounds) * sum(calls_s) + _START_S * len(cells)
    return Unit(part=part, place=place, cells=cells, stopping=stopping, expected_s=expected)


def _stopping(part: str, last_call_s: float, config: MechanismsConfig) -> Stopping:
    effort = config.effort
    stopping = Stopping(
        target_half_width=0.0,  # never: the ratios that count are not those to one reference
        budget_s=effort.budget_s,
        min_rounds=effort.min_rounds,
        max_rounds=effort.max_rounds,
        min_sample_s=effort.min_sample_s,
    )
    if part != SOFTMAX:
        return stopping
    affordable = max(2, int(effort.softmax_s / last_call_s) - _NUM_WARMUPS)
    return replace(stopping, min_rounds=min(stopping.min_rounds, affordable))


def _cell(entry: AttentionEntry, place: Place, config: MechanismsConfig) -> Cell:
    shape = asdict(config.shape)
    return Cell(
        entry=entry.label,
        mechanism=entry.mechanism,
        hyperparameters=dict(entry.hyperparameters),
        device="cpu",
        num_threads=place.num_threads,
        workload=KernelWorkload(
            **shape,
            seq_len=place.seq_len,
            mode=place.mode,
            causal=place.causal,
            scope=place.scope,
        ),
    )


def _call_s(cell: Cell) -> float:
    work, form = cell.kernel, cell.hyperparameters.get(SWITCH, "")
    products = needs_of(cell).executed_flops / _FLOPS_PER_S
    elements = work.batch_size * work.seq_len * work.num_heads * work.head_dim
    one_pass_s = products / float(cell.num_threads) + elements * _ELEMENT_S.get(
        form, _OUR_ELEMENT_S
    )
    return work.flops_factor * one_pass_s
