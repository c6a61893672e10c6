"""Which units there are to measure, the cheap ones first."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, replace

import torch

from bench.cell import Cell, KernelWorkload
from bench.config import AttentionEntry
from bench.measure.stopping import Stopping
from bench.mechanisms.config import Effort, MechanismsConfig
from bench.mechanisms.forms import SWITCH, Pair, pairs_of, softmax
from bench.mechanisms.needs import needs_of
from bench.mechanisms.units import FORMS, ONE_THREAD, SAVED, SOFTMAX, THREADS, Place, Unit

CellPair = tuple[Cell, Cell]
"""Our form and the other at one place."""

_START_S = 0.3
"""A member before it is called: built, with its inputs."""

_FLOPS_PER_S = 6e10
_ELEMENT_S = {"official": 2.5e-8}
_OUR_ELEMENT_S = 0.8e-8
"""A modest core on products, and on one element of q in all element-wise steps. Guesses: they are
printed, weigh the progress bar, and say where softmax gets fewer rounds."""

_SHORT_S = 0.3
"""Of a round; a shorter one is taken in several processes, as many as an interval needs. There it
shows how the memory of a process happens to lie: the same two forms differ from one process to the
next by more than their interval within one."""
_NUM_WARMUPS = 2
_MAX_SETS_BYTES = 64 * 2**20
"""Of inputs that a member holds, unless one set is more; see `bench.subject`."""


def plan_units(config: MechanismsConfig, *, memory_bytes: int, num_cores: int) -> tuple[Unit, ...]:
    """All units, short sequences first, so that a run that is cut short has whole columns.

    Of a length the first number of threads and the first allocator come first.

    Args:
        config: what was asked for.
        memory_bytes: what the machine has; members whose inputs take more than a third of it do
            not share a process.
        num_cores: what it has; more threads than that are not compared with one.

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
                for unit in _units_at(place, of_scope, config, memory_bytes, num_cores)
            ]
    return tuple(sorted(units, key=lambda unit: (unit.place.seq_len, _turn(unit.place, config))))


def _turn(place: Place, config: MechanismsConfig) -> tuple[int, int]:
    return config.num_threads.index(place.num_threads), config.allocator.index(place.allocator)


def _places(config: MechanismsConfig, scope: str, causal: bool) -> Iterator[Place]:
    axes = (config.seq_len, config.mode, config.num_threads, config.allocator)
    for seq_len, mode, num_threads, allocator in itertools.product(*axes):
        yield Place(
            scope=scope,
            causal=causal,
            seq_len=seq_len,
            mode=mode,
            num_threads=num_threads,
            allocator=allocator,
        )


def _units_at(
    place: Place,
    pairs: Sequence[Pair],
    config: MechanismsConfig,
    memory_bytes: int,
    num_cores: int,
) -> Iterator[Unit]:
    cells = [_cells(pair, place, config) for pair in pairs]
    for pair in cells:
        yield _unit(FORMS, place, pair, config)
    size = max(1, int(memory_bytes / 3 / _held_bytes(place, config)))
    for group in _groups(cells, max(1, size - 1)):
        yardstick = _cell(softmax(), place, config)
        yield _unit(SOFTMAX, place, [*(ours for ours, _ in group), yardstick], config)
    if 1 in config.num_threads and 1 < place.num_threads <= num_cores:
        for ours, _ in cells:
            yield _unit(THREADS, place, (ours, _with_one_thread(ours)), config)
    # Neither threads nor the allocator change what is kept.
    if cells and _turn(place, config) == (0, 0) and place.mode == "forward_backward":
        yield _unit(SAVED, place, (ours for ours, _ in cells), config)


def _groups(cells: Sequence[CellPair], size: int) -> Iterable[Sequence[CellPair]]:
    return (cells[start : start + size] for start in range(0, len(cells), size))


def _held_bytes(place: Place, config: MechanismsConfig) -> int:
    """What a member's inputs take while others are timed."""
    shape = config.shape
    per_tensor = shape.batch_size * place.seq_len * shape.num_heads * shape.head_dim
    one_set = 4 * per_tensor * torch.empty(0, dtype=getattr(torch, shape.dtype)).element_size()
    return max(one_set, min(_MAX_SETS_BYTES, 4 * one_set))


def _unit(part: str, place: Place, members: Iterable[Cell], config: MechanismsConfig) -> Unit:
    cells = tuple(members)
    calls_s = [_call_s(cell) for cell in cells]
    if part == SAVED:
        expected = sum(calls_s) / 3 + _START_S * len(cells)
        return Unit(part=part, place=place, cells=cells, stopping=Stopping(), expected_s=expected)
    effort = config.effort
    number = effort.min_rounds if part != SOFTMAX and sum(calls_s) < _SHORT_S else 1
    stopping = _stopping(part, calls_s[-1], effort) if number == 1 else _share(effort, number)
    rounds = stopping.budget_s * len(cells) / sum(calls_s)
    rounds = min(stopping.max_rounds, max(stopping.min_rounds, rounds))
    one_process_s = (_NUM_WARMUPS + rounds) * sum(calls_s) + _START_S * len(cells)
    return Unit(
        part=part,
        place=place,
        cells=cells,
        num_processes=number,
        stopping=stopping,
        expected_s=number * one_process_s,
    )


def _stopping(part: str, last_call_s: float, effort: Effort) -> Stopping:
    """Of the rounds of a single process."""
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


def _share(effort: Effort, number: int) -> Stopping:
    """Of the rounds of each of so many processes."""
    return Stopping(
        target_half_width=0.0,
        budget_s=effort.budget_s / number,
        min_rounds=min(2, effort.max_rounds),
        max_rounds=max(2, effort.max_rounds // number),
        min_sample_s=effort.min_sample_s,
    )


def _cells(pair: Pair, place: Place, config: MechanismsConfig) -> CellPair:
    """Our form and the other."""
    ours, other = (_cell(entry, place, config) for entry in (pair.ours, pair.other))
    return replace(ours, plugins=pair.plugins), replace(other, plugins=pair.plugins)


def _with_one_thread(cell: Cell) -> Cell:
    return replace(cell, entry=f"{cell.entry} {ONE_THREAD}", num_threads=1)


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
