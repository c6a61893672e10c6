"""The command: analyse each row, store the numbers, and publish them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial

from attentions import Attention, attention_class
from bench.core.cell import Cell
from bench.core.cli.entries import LAYERS, AttentionEntry
from bench.core.format import quantity
from bench.core.numbers import (
    FILE,
    RANDOM,
    LeftOut,
    Line,
    Number,
    Origin,
    finite,
    write_lines,
)
from bench.core.numbers import sentences as finding_sentences
from bench.core.progress import Part
from bench.measuring.config import SweepConfig
from bench.measuring.plan import PlannedCell, checked_hyperparameters, plan
from bench.measuring.plugins import code_of
from bench.measuring.tasks.base import build_task
from bench.measuring.tasks.train import Diverged
from bench.measuring.weights import NoWeights
from bench.publishing.diagnostics import left_out_words, sections
from bench.publishing.document import Document
from bench.studies.diagnostics.look import of_lengths, of_random
from bench.studies.diagnostics.page import PAGE, write_found
from bench.studies.diagnostics.samples import Size, build_core
from bench.studies.diagnostics.settings import Diagnose
from bench.studies.diagnostics.trained import (
    Trained,
    first_examples,
    of_model,
    swapped_in,
    trained_on,
)
from bench.studies.session import Session


@dataclass(kw_only=True)
class Search(Part):
    """Numbers of one row on random inputs, in trained models, or in softmax's place.

    Attributes:
        find: computes them.
    """

    find: Callable[[], Iterator[Line]]


def study(asked: Diagnose, session: Session) -> None:
    """Analyse all parts, store the numbers after each, and publish them at the end."""
    look = _Look(asked, session)
    with session.each(look.parts(), "part") as todo:
        for part in todo:
            part.outcome = look.keep(part.find())
    if not look.lines:
        session.say("Nothing was found before.")
        return
    origin = look.origin(*([_STOPPED] if session.is_stopped else []))
    numbers = write_lines(asked.out / FILE, look.lines, origin)
    files = write_found(look.lines, origin, asked.out / PAGE)
    found = (block for section in sections(look.lines) for block in section.blocks())
    session.show(Document("", [*found]))
    for sentence in (*finding_sentences(look.lines), *left_out_words(look.lines)):
        session.say(sentence)
    session.say(f"Wrote {', '.join(map(str, [*files, numbers]))}")


class _Look:
    """One run of the command.

    Attributes:
        lines: numbers found so far, and rows that were left out.
    """

    def __init__(self, asked: Diagnose, session: Session) -> None:
        self._asked, self._session = asked, session
        self._rows = [
            replace(e, hyperparameters=checked_hyperparameters(e)) for e in asked.attention
        ]
        self._training = asked.training(session.composed)
        self._planned = plan(self._training) if self._training else ()
        if cells := [p.cell for p in self._planned if not p.unsupported]:
            _refuse_too_many(asked.num_examples, cells[0])  # one task, so one test set
        self._models: dict[str, Trained] = {}
        self.lines: list[Line] = []

    def parts(self) -> list[Search]:
        """Random inputs first, then models, then those in softmax's place."""
        own = {row.label: self._cells(row.label) for row in self._rows}
        known = {label: cells for label, cells in own.items() if cells}
        swapped = known if self._asked.fine_tune_steps else {}
        return [
            *(Search(name=f"{r.label}, random", find=partial(self._random, r)) for r in self._rows),
            *(
                Search(name=f"{label}, trained", find=partial(self._trained, cells))
                for label, cells in known.items()
            ),
            *(
                Search(name=f"{label}, in softmax's place", find=partial(self._swapped, cells))
                for label, cells in swapped.items()
            ),
        ]

    def origin(self, *notes: str) -> Origin:
        """Origin of the lines: command, settings, machine, commit and day."""
        return Origin(
            command=self._session.command(),
            settings=(*_settings(self._asked, self._training), *notes),
            machine=self._session.place,
        )

    def keep(self, found: Iterable[Line]) -> str:
        """Store lines with the earlier ones; returns the outcome of their part, in words."""
        new = list(found)
        self.lines += new
        write_lines(self._asked.out / FILE, self.lines, self.origin(_STOPPED))
        left_out = [line for line in new if isinstance(line, LeftOut)]
        return f"left out: {left_out[0].why}" if len(left_out) == len(new) else "done"

    def _cells(self, label: str) -> list[PlannedCell]:
        return [p for p in self._planned if p.cell.entry == label]

    def _random(self, row: AttentionEntry) -> Iterator[Line]:
        size, asked = self._asked.size, self._asked
        if LAYERS in row.hyperparameters:
            yield LeftOut(attention=row.label, inputs=RANDOM, why=_LAYERS)
            return
        can = attention_class(row.mechanism).capabilities
        causal = size.causal or not can.bidirectional
        samples = _Samples(row.label, RANDOM)
        try:
            with code_of(row.mechanism):
                self._sample(row, replace(size, causal=causal), samples)
        except (ValueError, ImportError) as error:
            yield LeftOut(attention=row.label, inputs=RANDOM, why=str(error))
            return
        yield from samples.numbers()
        if causal and not asked.causal:
            yield LeftOut(attention=row.label, inputs="random without a mask", why=_CAUSAL)

    def _sample(self, row: AttentionEntry, size: Size, samples: _Samples) -> None:
        asked, build = self._asked, partial(_build, row)
        try:
            for seed in range(asked.num_seeds):
                samples.add(of_random(build, size, asked.norms, asked.token_norms, seed))
            samples.add(of_lengths(build, size, asked.lengths, 0))
        except TypeError as error:  # the core was called without its gates
            gates = attention_class(row.mechanism).capabilities.gates
            if not any(repr(name) in str(error) for name in gates):  # Python names it
                raise
            raise NoWeights(_GATES) from error

    def _trained(self, cells: list[PlannedCell]) -> Iterator[Line]:
        asked, cell = self._asked, cells[0].cell
        by_layer: dict[int, _Samples] = {}
        where = cell.task.label
        try:
            with code_of(cell.mechanism):
                for planned in cells:
                    trained = self._model(planned)
                    found = of_model(trained, planned.cell.task.seed, asked.num_examples)
                    for layer, numbers in found.items():
                        place = f"{where}, layer {layer}"
                        by_layer.setdefault(layer, _Samples(cell.entry, place)).add(numbers)
        except (ValueError, Diverged) as error:
            yield LeftOut(attention=cell.entry, inputs=where, why=str(error))
            return
        for samples in by_layer.values():
            yield from samples.numbers()

    def _swapped(self, cells: list[PlannedCell]) -> Iterator[Line]:
        cell = cells[0].cell
        where = cell.task.label
        samples = _Samples(cell.entry, where)
        softmax = {p.cell.task.seed: p for p in self._cells("softmax")}
        try:
            with code_of(cell.mechanism):
                for planned in cells:
                    if planned.unsupported:
                        raise ValueError(planned.unsupported)
                    source = self._model(softmax[planned.cell.task.seed])
                    steps = self._asked.fine_tune_steps
                    samples.add(swapped_in(source, planned.cell, steps))
        except (ValueError, Diverged) as error:
            why = f"in softmax's place: {error}"
            yield LeftOut(attention=cell.entry, inputs=where, why=why)
            return
        yield from samples.numbers()

    def _model(self, planned: PlannedCell) -> Trained:
        """The model of a cell, trained once and kept; a later run restores its checkpoint.

        Raises:
            ValueError: the mechanism does not support the task.
            ConfigError: its checkpoint is of another configuration.
        """
        if planned.unsupported:
            raise ValueError(planned.unsupported)
        key = planned.cell.key
        if key not in self._models:
            model = self._session.trained(planned.cell, self._asked.out / "checkpoints")
            self._models[key] = trained_on(planned.cell, model)
        return self._models[key]


_STOPPED = "Stopped before the end: rows that are missing in a table were not looked at."
_GATES = "it needs gates, which only a model gives."
_LAYERS = "it names a mechanism for each layer, and only a model has layers."
_CAUSAL = "it is causal only, so it was given a causal mask; softmax beside it has the same one."


class _Samples:
    """Numbers of one row on one kind of inputs, with a sample per seed."""

    def __init__(self, attention: str, inputs: str) -> None:
        self._attention, self._inputs = attention, inputs
        self._found: dict[tuple[str, str], list[float | None]] = defaultdict(list)

    def add(self, numbers: Iterable[tuple[str, str, float | None]]) -> None:
        """Add the numbers of one more seed."""
        for measure, at, value in numbers:
            self._found[measure, at].append(finite(value))

    def numbers(self) -> Iterator[Number]:
        """All numbers, each with its samples."""
        for (measure, at), samples in self._found.items():
            yield Number(
                attention=self._attention,
                inputs=self._inputs,
                measure=measure,
                at=at,
                samples=tuple(samples),
            )


def _build(row: AttentionEntry, size: Size, seed: int) -> Attention:
    return build_core(row.label, row.mechanism, row.hyperparameters, size, seed)


def _refuse_too_many(num_examples: int, cell: Cell) -> None:
    """Refuse more examples than a cell's test set has, before anything is trained."""
    with suppress(ValueError):  # what else is wrong with a task is said when it is trained
        first_examples(build_task(cell.task.task, cell.task.settings), cell.task.seed, num_examples)


def _settings(asked: Diagnose, training: SweepConfig | None) -> Iterator[str]:
    size = asked.size
    yield (
        f"Random queries and keys: {size.num_tokens} tokens, {quantity(size.num_heads, 'head')} of "
        f"{size.head_dim} channels, unit-normal (norms about {size.head_dim**0.5:g}) unless a "
        f"norm is given; seeds 0 to {asked.num_seeds - 1}."
    )
    if training:
        yield (
            f"Trained models: {training.task[0].label}, seed {', '.join(map(str, asked.seed))}; "
            f"their own queries and keys on {asked.num_examples} test examples; up to "
            f"{asked.fine_tune_steps} steps of fine-tuning."
        )
