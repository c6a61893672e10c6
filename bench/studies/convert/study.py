"""Exchange the layers of a trained softmax model for another mechanism, and train it further."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import torch
from torch import nn

from bench.core.cell import Cell
from bench.core.cli.errors import ConfigError
from bench.core.clock import cpu_s
from bench.core.format import quantity
from bench.core.grid import GRIDS, MAX_WIDENINGS, Best, Trained, best_of
from bench.core.lines import Lines
from bench.core.settings import (
    Budget,
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
from bench.core.sources import hashed
from bench.measuring.config import training_config
from bench.measuring.plan import PlannedCell
from bench.measuring.plugins import PluginFailed, code_of
from bench.measuring.tasks.base import Task, build_task
from bench.measuring.tasks.train import Diverged, score_on_test_set, score_on_validation
from bench.studies.convert import models
from bench.studies.convert.page import (
    AT_EDGE,
    CURVES,
    NOT_SEARCHED,
    TEACHERS,
    Ablated,
    Arm,
    Curve,
    document_of,
)
from bench.studies.session import Session

ARMS, PAGE, CHECKPOINTS = "arms.jsonl", "conversion.md", "checkpoints"
CONVERTED, SCRATCH = "converted", "from scratch"
CPU = torch.device("cpu")
_ROUNDING = 0.005
"""A share that is nearer than this to a whole number of layers was meant as that number."""

Steps = Annotated[int, Interval(ge=0, le=1_000_000)]


class Convert(Settings):
    """Exchange the layers of a trained softmax model for another mechanism, and train it further.

    Three phases: the exchanged layers learn the outputs of those that they replace, then the model
    learns the logits of the one before, then the labels. The control is the same model trained from
    scratch on as many batches.
    """

    attention: Rows = rows("linear", "hedgehog", "gla", "gated_deltanet")
    task: Annotated[dict[str, Any], Group("task")] = chosen("recall_causal")
    keep: Many[Annotated[float, Interval(ge=0.0, lt=1.0)]] = (0.0, 0.25, 0.5)
    """Share of the layers that stay softmax, rounded to whole layers, evenly spaced, the last among
    them.
    """
    num_layers: Annotated[int, Interval(ge=1, le=64)] = 4
    """Layers of a teacher that is trained here."""
    teacher: Folder | None = None
    """Folder of a trained model of yours, for Transformers or timm; it gets the task's inputs."""
    match_steps: Steps = 60
    """Steps of the first phase."""
    distil_steps: Steps = 60
    """Steps of the second."""
    tune_steps: Steps = 60
    """Steps of the third."""
    rate_share: Annotated[float, Interval(gt=0.0, le=10.0)] = 0.3
    """Learning rate of phases two and three, as a share of the first's."""
    learning_rates: Many[Annotated[float, Interval(gt=0.0, le=10.0)]] = GRIDS["usual"]
    """Learning rates to try for either arm alone, with the first seed, on validation examples; with
    one, no search.
    """
    seed: Many[Seed] = (0, 1, 2)
    """Seed of weights and data, one or a list."""
    budget: Budget | None = None
    """30m, 2h: no model begins that would end later; the same command goes on from there."""
    plugins: Some[Name] = ()
    """Modules to import that register further mechanisms or tasks."""
    docs: Folder = Path("${out}")
    """Folder for conversion.md and its pictures, e.g. docs/results."""
    out: Folder = Path("results/conversion")
    """Folder of curves.jsonl, arms.jsonl and trained teachers."""

    @property
    def phases(self) -> tuple[int, int, int]:
        """Steps of each phase."""
        return self.match_steps, self.distil_steps, self.tune_steps


@dataclass(frozen=True, kw_only=True)
class Run:
    """One model to convert.

    Attributes:
        key: see `Curve`.
        scratch: cell of the control; the converted model is built from it too.
        teacher: cell of its teacher.
        keep: share of the layers that stay softmax.
    """

    key: str
    scratch: Cell
    teacher: Cell
    keep: float
    expected_s: float = 60.0

    @property
    def row(self) -> tuple[str, str, float]:
        """Mechanism, task and share, whose rates are searched with one seed."""
        return self.scratch.entry, self.scratch.task.label, self.keep

    def describe(self) -> str:
        """Name of the run, e.g. ``linear, keep 0.5, recall_causal, seed 0``."""
        work = self.scratch.task
        return f"{self.scratch.entry}, keep {self.keep:g}, {work.label}, seed {work.seed}"


def study(asked: Convert, session: Session) -> None:
    """Train the conversions that the store lacks, and publish those of this command that it has."""
    if sum(asked.phases) == 0:
        raise ConfigError("All phases have 0 steps. Give match_steps, distil_steps or tune_steps.")
    store: Lines[Curve] = Lines(asked.out / CURVES, Curve)
    runs = list(_runs(asked, session))
    known = {curve.key: curve for curve in store.read(missing_ok=True)}
    todo = [run for run in runs if run.key not in known]
    torch.set_num_threads(1)
    # The first seed of a row comes before its others, and has their rates.
    searched = {run.row: known[run.key] for run in reversed(runs) if run.key in known}
    with session.each(todo, "model", within_s=asked.budget) as units:
        for run in units:
            try:
                with code_of(run.scratch.mechanism):
                    curve = _convert(run, asked, session, searched.get(run.row))
            except (AllDiverged, Diverged, PluginFailed) as error:
                session.note(f"{run.describe()} has no curve: {error}")
                continue
            store.append(curve)
            known[curve.key] = searched[run.row] = curve
    curves = [known[run.key] for run in runs if run.key in known]
    if lacking := len(runs) - len(curves):
        session.note(f"{lacking} of {len(runs)} conversions are not in the store.")
    if curves:
        own = {run.teacher.key: run.teacher for run in runs if run.key in known}
        ablated = [] if asked.teacher else [*_ablated(own.values(), asked.out, session)]
        command = session.command("docs", "budget")
        session.publish(document_of(curves, ablated, command, session.notes), asked.docs / PAGE)


# --- what to convert ------------------------------------------------------------------------------


def _runs(asked: Convert, session: Session) -> Iterator[Run]:
    """Every conversion: one task after the other, the first seed of all rows before the next."""
    digest = asked.teacher and models.digest_of(asked.teacher)
    own = session.composed["attention"]
    planned = [
        (keep, p) for keep in _shares(asked, session) for p in _plan(asked, session, keep, own)
    ]
    softmax = _plan(asked, session, 0.0, {"softmax": {"mechanism": "softmax"}})
    teachers = {(p.cell.task.label, p.cell.task.seed): p.cell for p in softmax}
    refused: set[str] = set()
    for place, teacher in teachers.items():
        for keep, one in planned:
            work = one.cell.task
            if (work.label, work.seed) != place:
                continue
            if one.unsupported:
                refused.add(f"{one.cell.entry} is left out on {work.label}: {one.unsupported}")
                continue
            about = [digest or teacher.key, one.cell.key, keep, asked.phases, asked.rate_share]
            key = hashed([*about, asked.learning_rates])
            yield Run(key=key, scratch=one.cell, teacher=teacher, keep=keep)
    for words in sorted(refused):
        session.note(words)


def _plan(
    asked: Convert, session: Session, keep: float, attention: Mapping[str, Any]
) -> tuple[PlannedCell, ...]:
    """Rows in a model whose other layers are softmax, task by task and seed by seed."""
    kept = {"num_layers": asked.num_layers, "softmax_layers": round(keep * asked.num_layers)}
    tasks = {label: settings | kept for label, settings in asked.task.items()}
    how = training_config(
        attention, tasks, asked.out, seed=asked.seed, plugins=asked.plugins, device="cpu"
    )
    return session.plan(how)


def _shares(asked: Convert, session: Session) -> list[float]:
    """The shares of layers that stay softmax, each a whole number of layers where that is known.

    Raises:
        ConfigError: a share leaves no layer to exchange.
    """
    layers = models.num_layers_of(asked.teacher) if asked.teacher else asked.num_layers
    if layers is None:
        return [*asked.keep]
    found: dict[float, None] = {}
    for keep in asked.keep:
        count = round(keep * layers)
        if count == layers:
            mend = "Keep fewer." if asked.teacher else "Keep fewer, or set num_layers."
            raise ConfigError(f"keep={keep:g} of {layers} layers leaves none to exchange. {mend}")
        share = count / layers
        if abs(share - keep) >= _ROUNDING:
            session.note(
                f"keep={keep:g} is not a whole number of {layers} layers: {count} of them "
                f"({100 * share:.0f} %) stay softmax."
            )
        found[share] = None
    return [*found]


# --- what is trained ------------------------------------------------------------------------------


def _convert(run: Run, asked: Convert, session: Session, searched: Curve | None) -> Curve:
    """Train both arms at the rates of their row; its first curve comes from a search."""
    cell, work, at = run.scratch, run.scratch.task, models.looks(asked.phases)
    task, seed, exchange = build_task(work.task, work.settings), work.seed, models.exchanged_in
    entry, foreign = (cell.mechanism, cell.hyperparameters, run.keep), asked.teacher

    def teacher() -> Any:
        if foreign is not None:
            return models.load(foreign, task)
        return session.trained(run.teacher, asked.out / CHECKPOINTS)

    def train(arm: str, rate: float) -> tuple[nn.Module, tuple[float, ...]]:
        if arm == CONVERTED:
            old = teacher()
            pupil = exchange(old, *entry) if foreign else models.of_cell(cell, old)
            phases = models.from_teacher(pupil, old, asked.phases, asked.rate_share)
        else:
            drawn = foreign and exchange(models.load(foreign, task, seed), *entry)
            pupil = drawn or models.of_cell(cell, None)
            phases = [models.by_labels(pupil[0], sum(asked.phases))]
        name = f"{run.describe()}, {arm} at {rate:g}"
        say = lambda words: session.status(f"{name}: {words}")  # noqa: E731
        return pupil[0], models.trained(pupil[0], task, seed, phases, rate, at, say)

    whole = score_on_test_set(teacher(), task, seed, CPU)
    own = searched.rates if searched and searched.rates else None
    given = [(rate,) for rate in own] if own else [asked.learning_rates] * 2
    arms: Lines[Arm] = Lines(asked.out / ARMS, Arm)
    made, anew = (
        best_arm(arms, run.key, run.describe(), arm, rates, task, partial(train, arm))
        for arm, rates in zip((CONVERTED, SCRATCH), given, strict=True)
    )
    mark = AT_EDGE if made.is_at_edge or anew.is_at_edge else ""
    mark = NOT_SEARCHED if len(asked.learning_rates) == 1 else mark
    here = f"a softmax model of {quantity(asked.num_layers, 'layer')}"
    return Curve(
        key=run.key,
        task=work.label,
        attention=cell.entry,
        keep=run.keep,
        seed=seed,
        phases=asked.phases,
        steps=at,
        converted=made.scores,
        scratch=anew.scores,
        teacher=whole,
        chance=task.chance(),
        unit=task.unit,
        train_s=made.train_s + anew.train_s,
        source=str(foreign) if foreign else here,
        origin=session.place,
        rates=(made.rate, anew.rate),
        mark=searched.mark if searched else mark,
    )


class AllDiverged(Exception):
    """No rate gave a score."""


class Chosen(NamedTuple):
    """An arm at its best rate, and the CPU seconds of all rates that were tried.

    It is at an edge if a lower or higher rate than all that were tried may be better.
    """

    rate: float
    scores: tuple[float, ...]
    is_at_edge: bool
    train_s: float


def best_arm(
    lines: Lines[Arm],
    of_run: str,
    run: str,
    arm: str,
    rates: Iterable[float],
    task: Task,
    train: Callable[[float], tuple[nn.Module, tuple[float, ...]]],
) -> Chosen:
    """The best of some rates by validation score, widened where it lies at their edge.

    Args:
        lines: the store, with a line for each arm at each rate; those that it lacks are trained.
        of_run: key of the conversion.
        run: the conversion in words.
        arm: `CONVERTED` or `SCRATCH`.
        rates: to begin with.
        task: whose validation examples are scored.
        train: trains this arm at a rate; returns its model and its scores on the test set.

    Raises:
        AllDiverged: no rate gave a score.
    """
    known = {one.key: one for one in lines.read(missing_ok=True)}
    tried: dict[float, Arm] = {}

    def at(rate: float) -> Arm:
        key = hashed([of_run, arm, rate])
        if key not in known:
            began_s, scores, validation = cpu_s(), tuple[float, ...](), None
            with suppress(Diverged):
                model, scores = train(rate)
                validation = score_on_validation(model, task, CPU)
            known[key] = Arm(
                key=key,
                scores=() if validation is None else scores,
                validation=validation,
                train_s=cpu_s() - began_s,
                arm=arm,
                rate=rate,
                run=run,
            )
            lines.append(known[key])
        return known[key]

    def best(more: Iterable[float]) -> Best:
        tried.update({rate: at(rate) for rate in more})
        scores = {rate: Trained(score=one.validation) for rate, one in tried.items()}
        return best_of(scores, better=task.better)

    found = best(rates)
    for _ in range(MAX_WIDENINGS):
        found = best([found.beyond]) if found.beyond else found
    if found.rate is None:
        told = ", ".join(f"{rate:g}" for rate in sorted(tried))
        raise AllDiverged(f"training diverged at all rates that were tried: {told}")
    spent_s = sum(one.train_s for one in tried.values())
    return Chosen(found.rate, tried[found.rate].scores, found.beyond is not None, spent_s)


def _ablated(teachers: Iterable[Cell], out: Path, session: Session) -> Iterator[Ablated]:
    """Scores of each teacher, and without each of its mixers, measured once."""
    store: Lines[Ablated] = Lines(out / TEACHERS, Ablated)
    known = {one.key: one for one in store.read(missing_ok=True)}
    for cell in teachers:
        if cell.key not in known:
            model, work = session.trained(cell, out / CHECKPOINTS), cell.task
            task = build_task(work.task, work.settings)
            score = partial(score_on_test_set, model, task, work.seed, CPU)
            whole, without = score(), list[float]()
            for mixer in model.mixers:
                handle = mixer.register_forward_hook(lambda *args: args[-1] * 0)
                without.append(score())
                handle.remove()
            known[cell.key] = Ablated(
                key=cell.key,
                task=work.label,
                seed=work.seed,
                score=whole,
                without=tuple(without),
            )
            store.append(known[cell.key])
        yield known[cell.key]
