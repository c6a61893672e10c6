"""Analyse attention weights, on random inputs and in trained models; store and publish numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any

from attentions import attention_class
from bench.core.cli.entries import LAYERS, AttentionEntry
from bench.core.cli.errors import ConfigError
from bench.core.format import quantity
from bench.core.numbers import (
    FILE,
    RANDOM,
    LeftOut,
    Line,
    Number,
    Origin,
    finite,
    read_lines,
    write_lines,
)
from bench.core.numbers import sentences as finding_sentences
from bench.core.progress import Part
from bench.core.settings import (
    AfterValidator,
    Folder,
    Group,
    Interval,
    Many,
    Name,
    Rows,
    Seed,
    Settings,
    Some,
    chosen,
    rows,
)
from bench.measuring.config import SweepConfig, training_config
from bench.measuring.plan import PlannedCell, checked_hyperparameters, plan
from bench.measuring.plugins import code_of
from bench.measuring.tasks.base import build_task
from bench.measuring.tasks.train import Diverged
from bench.measuring.weights import NoWeights
from bench.publishing.charts.write import write_illustrated
from bench.publishing.diagnostics import entropy_chart, left_out_words, sections
from bench.publishing.document import (
    Block,
    Bullets,
    Command,
    Document,
    Heading,
    Prose,
    Text,
)
from bench.publishing.templates import prose
from bench.studies.diagnostics.look import (
    Found,
    Trained,
    first_examples,
    of_lengths,
    of_model,
    of_random,
    swapped_in,
    trained_on,
)
from bench.studies.diagnostics.samples import Size, build_core
from bench.studies.session import Session

PAGE = "diagnostics.md"
Norm = Annotated[float, Interval(ge=1e-6, le=1e6)]


class Diagnose(Settings):
    """Analyse attention weights, on random queries and keys and on those of trained models.

    Random queries and keys are unit normal, with norms of about sqrt(head_dim), then scaled.
    """

    attention: Rows = rows("softmax", "flatten", "nala")
    task: Annotated[dict[str, Any] | None, Group("task")] = chosen("recall")
    rates: Annotated[Any, Group("rates")] = chosen("searched")
    num_heads: Annotated[int, Interval(ge=1, le=2**31 - 1)] = 4
    head_dim: Annotated[int, Interval(ge=1, le=2**31 - 1)] = 16
    seq_len: Annotated[int, Interval(ge=2, le=4096)] = 64
    causal: bool = False
    """Causal-only mechanisms get a causal mask in any case."""
    norms: Annotated[Many[Norm], AfterValidator(lambda norms: tuple(sorted(norms)))] = (
        *(0.1, 0.25, 0.5, 1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 16.0),
    )
    """Norms of all queries, at fixed directions."""
    token_norms: Some[Norm] = (1.0, 2.0, 4.0, 8.0)
    """Medians of norms that vary between tokens; softmax is compared there."""
    lengths: Some[Annotated[int, Interval(ge=1, le=65_536)]] = (64, 256, 1024)
    """Numbers of tokens for errors in bfloat16 and float16; [] skips them."""
    num_seeds: Annotated[int, Interval(ge=2, le=1000)] = 5
    """For random inputs, and for random weights of a mechanism."""
    trained: bool = True
    """Also on models trained on one task=; they are kept under out/checkpoints and reused."""
    seed: Many[Seed] = (0,)
    """Seed of training runs, or a list of them."""
    num_examples: Annotated[int, Interval(ge=1, le=10_000)] = 24
    """Test examples whose queries and keys are analysed."""
    fine_tune_steps: Annotated[int, Interval(ge=0, le=1_000_000)] = 50
    """After the mechanism replaces a trained softmax; 0 skips this."""
    plugins: Some[Name] = ()
    """Modules to import that register further mechanisms or tasks."""
    out: Folder = Path("results/diagnostics")

    @property
    def size(self) -> Size:
        """Sizes of random inputs."""
        return Size(
            num_heads=self.num_heads,
            head_dim=self.head_dim,
            num_tokens=self.seq_len,
            causal=self.causal,
        )

    def training(self, composed: Mapping[str, Any]) -> SweepConfig | None:
        """A sweep over the task alone, softmax among its rows; None without a trained part.

        Raises:
            ConfigError: there is not exactly one task, or its settings are wrong.
        """
        if not self.trained:
            return None
        tasks = self.task or {}
        if len(tasks) != 1:
            raise ConfigError(
                f"task names {len(tasks)} tasks; one is looked at. Say task=recall, or "
                "trained=false."
            )
        # Softmax is trained too: in its model, others take its place.
        softmax = {"softmax": {"mechanism": "softmax"}}
        rows = softmax | dict(composed["attention"])
        more = {"seed": self.seed, "plugins": self.plugins, "device": "cpu", "rates": self.rates}
        return training_config(rows, tasks, self.out, **more)


@dataclass(kw_only=True)
class Search(Part):
    """Numbers of one row on random inputs, in trained models, or in softmax's place.

    Attributes:
        entry, mechanism: of the row.
        inputs: where its queries and keys come from.
        find: computes the numbers.
        before: words before the reason if the row is left out.
        why_not: the reason, where it is known without looking.
    """

    entry: str
    mechanism: str
    inputs: str
    find: Callable[[], Iterator[Line]]
    before: str = ""
    why_not: str = ""


def study(asked: Diagnose, session: Session) -> None:
    """Analyse all parts, store the numbers after each, and publish them at the end."""
    look = _Look(asked, session)
    with session.each([*look.parts()], "part") as todo:
        for part in todo:
            part.outcome = look.keep(part)
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
        self._training = asked.training(session.composed)
        self._planned = plan(self._training) if self._training else ()
        if works := [p.cell.task for p in self._planned if not p.unsupported]:
            with suppress(ValueError):  # what else is wrong with a task is said when it is trained
                task = build_task(works[0].task, works[0].settings)  # one, so one test set
                first_examples(task, works[0].seed, asked.num_examples)
        self._models: dict[str, Trained] = {}
        self.lines: list[Line] = []

    def parts(self) -> Iterator[Search]:
        """Random inputs first, then models, then those in softmax's place."""
        every = [
            replace(e, hyperparameters=checked_hyperparameters(e)) for e in self._asked.attention
        ]
        for row in every:
            yield Search(
                name=f"{row.label}, random",
                entry=row.label,
                mechanism=row.mechanism,
                inputs=RANDOM,
                find=partial(self._random, row),
                why_not=_LAYERS if LAYERS in row.hyperparameters else "",
            )
        known = [cells for row in every if (cells := self._cells(row.label))]
        swaps = known if self._asked.fine_tune_steps else []
        for where, models, find, before in (
            ("trained", known, self._trained, ""),
            ("in softmax's place", swaps, self._swapped, "in softmax's place: "),
        ):
            for cells in models:
                cell = cells[0].cell
                yield Search(
                    name=f"{cell.entry}, {where}",
                    entry=cell.entry,
                    mechanism=cell.mechanism,
                    inputs=cell.task.label,
                    find=partial(find, cells),
                    before=before,
                )

    def origin(self, *notes: str) -> Origin:
        """Origin of the lines: command, settings, machine, commit and day."""
        return Origin(
            command=self._session.command(),
            settings=(*_settings(self._asked, self._training), *notes),
            machine=self._session.place,
        )

    def keep(self, part: Search) -> str:
        """Store the lines of a part with the earlier ones; returns its outcome, in words."""
        try:
            if part.why_not:
                raise NoWeights(part.why_not)
            with code_of(part.mechanism):
                new = [*part.find()]
        except (ValueError, ImportError, Diverged) as error:
            why = f"{part.before}{error}"
            new = [LeftOut(attention=part.entry, inputs=part.inputs, why=why)]
        self.lines += new
        write_lines(self._asked.out / FILE, self.lines, self.origin(_STOPPED))
        left_out = [line for line in new if isinstance(line, LeftOut)]
        return f"left out: {left_out[0].why}" if len(left_out) == len(new) else "done"

    def _cells(self, label: str) -> list[PlannedCell]:
        return [p for p in self._planned if p.cell.entry == label]

    def _random(self, row: AttentionEntry) -> Iterator[Line]:
        asked, can = self._asked, attention_class(row.mechanism).capabilities
        size = replace(asked.size, causal=asked.causal or not can.bidirectional)
        build = partial(build_core, row.label, row.mechanism, row.hyperparameters)

        def found() -> Found:
            for seed in range(asked.num_seeds):
                yield from of_random(build, size, asked.norms, asked.token_norms, seed)
            yield from of_lengths(build, size, asked.lengths, 0)

        try:
            yield from _numbers(row.label, RANDOM, found())
        except TypeError as error:  # the core was called without its gates
            if not any(repr(name) in str(error) for name in can.gates):  # Python names it
                raise
            raise NoWeights(_GATES) from error
        if size.causal and not asked.causal:
            yield LeftOut(attention=row.label, inputs="random without a mask", why=_CAUSAL)

    def _trained(self, cells: list[PlannedCell]) -> Iterator[Line]:
        by_layer: dict[int, list[tuple[str, str, float | None]]] = {}
        for planned in cells:
            model, seed = self._model(planned), planned.cell.task.seed
            for layer, numbers in of_model(model, seed, self._asked.num_examples).items():
                by_layer.setdefault(layer, []).extend(numbers)
        cell = cells[0].cell
        for layer, numbers in by_layer.items():
            yield from _numbers(cell.entry, f"{cell.task.label}, layer {layer}", numbers)

    def _swapped(self, cells: list[PlannedCell]) -> Iterator[Line]:
        softmax = {p.cell.task.seed: p for p in self._cells("softmax")}

        def found() -> Found:
            for planned in cells:
                if planned.unsupported:
                    raise ValueError(planned.unsupported)
                source = self._model(softmax[planned.cell.task.seed])
                yield from swapped_in(source, planned.cell, self._asked.fine_tune_steps)

        yield from _numbers(cells[0].cell.entry, cells[0].cell.task.label, found())

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


def _numbers(
    attention: str, inputs: str, found: Iterable[tuple[str, str, float | None]]
) -> Iterator[Number]:
    """All numbers of one row on one kind of inputs, each with a sample per seed."""
    samples: dict[tuple[str, str], list[float | None]] = {}
    for measure, at, value in found:
        samples.setdefault((measure, at), []).append(finite(value))
    for (measure, at), own in samples.items():
        yield Number(attention=attention, inputs=inputs, measure=measure, at=at, samples=tuple(own))


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


def write_page(store: Path, page: Path, command: str, tasks: Sequence[str] = ()) -> list[Path]:
    """Write the page of stored numbers and its chart; returns their paths.

    Raises:
        ConfigError: there are no numbers, or a file cannot be written.
    """
    found = read_lines(store / FILE)
    if found.origin is None:
        raise ConfigError(f"{store / FILE} has no numbers; {command} makes them.")
    return write_found(found.lines, replace(found.origin, command=command), page)


def write_found(lines: Sequence[Line], origin: Origin, page: Path) -> list[Path]:
    """Write the page, and the chart into a folder of its name; returns the files.

    Raises:
        ConfigError: a file cannot be written.
    """
    chart = entropy_chart(lines)
    blocks: list[Block] = [
        Text([f"{origin.machine}, by"]),
        Command(origin.command),
        Prose("\n".join(origin.settings)),
        *([chart] if chart else []),
        Bullets(finding_sentences(lines)),
        *(block for section in sections(lines) for block in section.blocks(level=2)),
    ]
    if left_out := left_out_words(lines):
        blocks += [Heading("Left out"), Bullets(left_out)]
    blocks += [Heading("How to read this"), Prose(prose(__file__, "how_to_read"))]
    return write_illustrated(Document("What attention weights look like", blocks), page)
