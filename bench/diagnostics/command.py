"""The command: look at each row, keep what was found, show it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

from rich.console import Console

from attentions import Attention, attention_class
from bench.app.entries import AttentionEntry
from bench.app.files import check_writable
from bench.core.finding import sentences as finding_sentences
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
from bench.diagnostics.config import DiagnoseConfig, read_diagnose_config
from bench.diagnostics.look import of_lengths, of_random
from bench.diagnostics.page import write_page
from bench.diagnostics.samples import Size, build_core
from bench.diagnostics.trained import Trained, load_or_train, of_model, swapped_in
from bench.machine import environment
from bench.measure.clock import now_s, utc_now
from bench.plan import PlannedCell, checked_hyperparameters, plan
from bench.plugins import import_plugins
from bench.progress import one_by_one
from bench.publish.diagnostics import entropy_chart, left_out_words, sections
from bench.publish.terminal import print_sections
from bench.tasks.train import Diverged

_WIDTH_WITHOUT_TERMINAL = 160


def diagnose(composed: dict[str, Any]) -> int:
    """Do what was asked for; returns the exit code."""
    config = read_diagnose_config(composed)
    check_writable(config.out)
    import_plugins(config.plugins)
    console = Console()
    if not console.is_terminal:
        console = Console(width=_WIDTH_WITHOUT_TERMINAL)
    look = _Look(config, console)
    is_whole = look.run()
    if not look.lines:
        console.print("Stopped before anything was found.")
        return 130
    files = look.write(is_whole=is_whole)
    print_sections(sections(look.lines), console)
    for words in (
        *finding_sentences(look.lines),
        *left_out_words(look.lines),
        f"Wrote {', '.join(map(str, files))}",
    ):
        console.print(words, markup=False, highlight=False, soft_wrap=True)
    if not is_whole:
        console.print("Stopped. Trained models are kept: the same command goes on from there.")
    return 0 if is_whole else 130


class _Look:
    """One run of the command.

    Attributes:
        lines: what was found so far.
    """

    def __init__(self, config: DiagnoseConfig, console: Console) -> None:
        self._config, self._console = config, console
        self._started_s = now_s()
        self._here = environment.current(("cpu",), "default", {})
        self._rows = [
            replace(e, hyperparameters=checked_hyperparameters(e)) for e in config.attention
        ]
        self._planned = plan(config.training) if config.training else ()
        self._models: dict[str, Trained] = {}
        self.lines: list[Line] = []

    def run(self) -> bool:
        """Look at everything; False if Ctrl-C came first."""
        jobs = {f"{row.label}, random": partial(self._random, row) for row in self._rows}
        labels = dict.fromkeys(row.label for row in self._rows)
        own = {label: self._cells(label) for label in labels}
        for label, cells in own.items():
            if cells:
                jobs[f"{label}, trained"] = partial(self._trained, cells)
        if self._config.fine_tune_steps:
            for label, cells in own.items():
                if cells:
                    jobs[f"{label}, in softmax's place"] = partial(self._swapped, cells)
        try:
            one_by_one(list(jobs), lambda name: self._keep(jobs[name]()), self._console)
        except KeyboardInterrupt:
            return False
        return True

    def write(self, *, is_whole: bool) -> list[Any]:
        """The files."""
        out, chart = self._config.out, entropy_chart(self.lines, self._config.size.head_dim)
        origin = self._origin(*([] if is_whole else [_STOPPED]))
        numbers = write_lines(out / FILE, self.lines, origin)
        return [*write_page(self.lines, origin, now_s() - self._started_s, chart, out), numbers]

    def _origin(self, *notes: str) -> Origin:
        return Origin(
            command=self._config.command,
            settings=(*_settings(self._config), *notes),
            machine=f"{self._here.processor}, torch {self._here.versions['torch']}, commit "
            f"{(self._here.commit or 'unknown')[:7]}, {utc_now()[:10]}",
        )

    def _cells(self, label: str) -> list[PlannedCell]:
        return [p for p in self._planned if p.cell.entry == label]

    def _keep(self, found: Iterable[Line]) -> str:
        new = list(found)
        self.lines += new
        write_lines(self._config.out / FILE, self.lines, self._origin(_STOPPED))
        left_out = [line for line in new if isinstance(line, LeftOut)]
        return f"left out: {left_out[0].why}" if len(left_out) == len(new) else "done"

    def _random(self, row: AttentionEntry) -> Iterator[Line]:
        size, config = self._config.size, self._config
        try:
            can = attention_class(row.mechanism).capabilities
            causal = size.causal or not can.bidirectional
            size = replace(size, causal=causal)
            samples = _Samples(row.label, RANDOM)
            build = partial(_build, row)
            for seed in range(config.num_seeds):
                samples.add(of_random(build, size, config.norms, config.token_norms, seed))
            samples.add(of_lengths(build, size, config.lengths, 0))
        except (ValueError, ImportError) as error:
            yield LeftOut(attention=row.label, inputs=RANDOM, why=str(error))
            return
        except TypeError:  # one of its own arguments is missing
            if not can.gates:
                raise
            yield LeftOut(attention=row.label, inputs=RANDOM, why=_GATES)
            return
        yield from samples.numbers()
        if causal and not config.size.causal:
            yield LeftOut(attention=row.label, inputs="random without a mask", why=_CAUSAL)

    def _trained(self, cells: list[PlannedCell]) -> Iterator[Line]:
        config, cell = self._config, cells[0].cell
        by_layer: dict[int, _Samples] = {}
        where = cell.task.label
        try:
            for planned in cells:
                trained = self._model(planned)
                found = of_model(trained, planned.cell.task.seed, config.num_examples)
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
        where = f"{cell.task.label}"
        samples = _Samples(cell.entry, where)
        softmax = {p.cell.task.seed: p for p in self._cells("softmax")}
        try:
            for planned in cells:
                if planned.unsupported:
                    raise ValueError(planned.unsupported)
                source = self._model(softmax[planned.cell.task.seed])
                steps = self._config.fine_tune_steps
                samples.add(swapped_in(source, planned.cell, steps))
        except (ValueError, Diverged) as error:
            why = f"in softmax's place: {error}"
            yield LeftOut(attention=cell.entry, inputs=where, why=why)
            return
        yield from samples.numbers()

    def _model(self, planned: PlannedCell) -> Trained:
        """Trained once in a run, and restored in the next.

        Raises:
            ValueError: the mechanism does not support the task.
            ConfigError: its checkpoint is of another configuration.
        """
        if planned.unsupported:
            raise ValueError(planned.unsupported)
        key = planned.cell.key
        if key not in self._models:
            folder = self._config.out / "checkpoints"
            self._models[key] = load_or_train(planned.cell, folder, self._here)
        return self._models[key]


_STOPPED = "Stopped before the end: rows that are missing in a table were not looked at."
_GATES = "it needs gates, which only a model gives."
_CAUSAL = "it is causal only, so it was given a causal mask; softmax beside it has the same one."


class _Samples:
    """One sample a seed of each number of one row at one place."""

    def __init__(self, attention: str, inputs: str) -> None:
        self._attention, self._inputs = attention, inputs
        self._found: dict[tuple[str, str], list[float | None]] = defaultdict(list)

    def add(self, numbers: Iterable[tuple[str, str, float | None]]) -> None:
        """Those of one more seed."""
        for measure, at, value in numbers:
            self._found[measure, at].append(finite(value))

    def numbers(self) -> Iterator[Number]:
        """All of them."""
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


def _settings(config: DiagnoseConfig) -> Iterator[str]:
    size = config.size
    yield (
        f"Random queries and keys: {size.num_tokens} tokens, {size.num_heads} heads of "
        f"{size.head_dim} channels, unit-normal (norms about {size.head_dim**0.5:g}) unless a "
        f"norm is given; seeds 0 to {config.num_seeds - 1}."
    )
    if config.training:
        task, seeds = config.training.task[0], config.training.axes.seed
        yield (
            f"Trained models: {task.label}, seed {', '.join(map(str, seeds))}; their own queries "
            f"and keys on {config.num_examples} test examples; up to {config.fine_tune_steps} "
            "steps of fine-tuning."
        )
