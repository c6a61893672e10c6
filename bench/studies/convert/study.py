"""Convert each model, keep its curve, and write the page from all curves that are stored."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from torch import nn

from bench.core.cell import Cell
from bench.core.cli.command import read_yaml
from bench.core.cli.errors import ConfigError
from bench.core.clock import cpu_s, utc_now
from bench.core.lines import Lines
from bench.core.places import CONF
from bench.core.statistics import mean_interval
from bench.measuring.config import read_sweep_config
from bench.measuring.plan import PlannedCell
from bench.measuring.tasks.base import Task, build_task
from bench.measuring.tasks.train import Diverged, score_on_test_set
from bench.publishing.charts.plain import Curves, chart_of
from bench.publishing.charts.spec import Chart
from bench.publishing.charts.write import write_pictures
from bench.publishing.document import (
    Block,
    Column,
    Command,
    Document,
    Estimate,
    Figure,
    Prose,
    Row,
    Table,
    Text,
    words,
    write,
)
from bench.publishing.machine import machine_in_words
from bench.publishing.templates import prose
from bench.studies.convert.models import Pupil, exchanged_in, load, of_cell
from bench.studies.convert.settings import Convert
from bench.studies.convert.training import converted, from_scratch, looks
from bench.studies.session import Session

PAGE, CURVES = "conversion.md", "curves.jsonl"

MIN_LEAD = 0.05
"""Lead of the teacher over the control, as a share of the teacher's lead over chance, below which
there is nothing to recover."""


@dataclass(frozen=True, kw_only=True)
class Curve:
    """One conversion and its control.

    Attributes:
        key: of what was trained; a line with it is not trained again.
        phases: steps of matching, distillation and fine-tuning.
        steps: at which both were scored.
        teacher, chance: scores.
        train_s: CPU seconds of both arms, and of the teacher where this run trained it.
        source: what was converted, in words.
        origin: machine, commit and day.
    """

    key: str
    task: str
    attention: str
    keep: float
    seed: int
    phases: tuple[int, int, int]
    steps: tuple[int, ...]
    converted: tuple[float, ...]
    scratch: tuple[float, ...]
    teacher: float
    chance: float
    unit: str
    train_s: float
    source: str
    origin: str

    def recovered(self, at: int) -> float | None:
        """Share that is recovered at a look; None where the teacher has no lead to recover."""
        lead = self.teacher - self.scratch[at]
        whole = self.teacher - self.chance
        if whole == 0 or lead / whole < MIN_LEAD:
            return None
        return (self.converted[at] - self.scratch[at]) / lead


@dataclass(frozen=True, kw_only=True)
class Run:
    """One model to convert.

    Attributes:
        scratch: cell of the control; the converted model is built from it too.
        teacher: cell of its teacher.
    """

    key: str
    scratch: Cell
    teacher: Cell
    keep: float
    expected_s: float = 60.0

    def describe(self) -> str:
        """As ``linear, keep 0.5, seed 0``."""
        work = self.scratch.task
        return f"{self.scratch.entry}, keep {self.keep:g}, {work.label}, seed {work.seed}"


def study(asked: Convert, session: Session) -> None:
    """Train what the store lacks, seed by seed, and publish all of this question that it has."""
    if sum(asked.phases) == 0:
        raise ConfigError("All phases have 0 steps. Give match_steps, distil_steps or tune_steps.")
    store: Lines[Curve] = Lines(asked.out / CURVES, Curve)
    runs = list(_runs(asked, session))
    known = {curve.key: curve for curve in store.read(missing_ok=True)}
    todo = [run for run in runs if run.key not in known]
    torch.set_num_threads(1)
    teachers = _Teachers(asked, session)
    with session.each(todo, "model", within_s=asked.budget) as units:
        for run in units:
            try:
                curve = _convert(run, asked, session, teachers)
            except Diverged as error:
                session.note(f"{run.describe()} has no curve: {error}")
                continue
            store.append(curve)
            known[curve.key] = curve
    curves = [known[run.key] for run in runs if run.key in known]
    if lacking := len(runs) - len(curves):
        session.note(f"{lacking} of {len(runs)} conversions are not in the store.")
    if curves:
        path = asked.docs / PAGE
        figures = session.figures([*charts(curves)], path)
        document = document_of(curves, session.command("docs", "budget"), figures, session.notes)
        session.show(document)
        session.write(document, path)


def _runs(asked: Convert, session: Session) -> Iterator[Run]:
    """Every conversion, the first seed of all before the next."""
    sweep = read_yaml(CONF / "sweep.yaml") | {"seq_len": [], "rates": None, "device": "cpu"}

    for keep in asked.keep:
        if asked.teacher is None and round(keep * asked.num_layers) == asked.num_layers:
            raise ConfigError(
                f"keep={keep:g} of {asked.num_layers} layers leaves none to exchange. Keep fewer, "
                "or set num_layers."
            )

    def plan(keep: float, attention: Mapping[str, Any]) -> dict[tuple[str, str, int], PlannedCell]:
        kept = {"num_layers": asked.num_layers, "softmax_layers": round(keep * asked.num_layers)}
        given = {
            "attention": attention,
            "task": {label: settings | kept for label, settings in asked.task.items()},
            "seed": list(asked.seed),
            "plugins": list(asked.plugins),
            "out": str(asked.out),
        }
        planned = session.plan(read_sweep_config(sweep | given))
        return {(p.cell.entry, p.cell.task.label, p.cell.task.seed): p for p in planned}

    teachers = plan(0.0, {"softmax": {"mechanism": "softmax"}})
    rows = {keep: plan(keep, session.composed["attention"]) for keep in asked.keep}
    refused: set[str] = set()
    for seed in asked.seed:
        for keep, planned in rows.items():
            for (_, label, _), one in ((k, p) for k, p in planned.items() if k[2] == seed):
                if one.unsupported:
                    refused.add(f"{one.cell.entry} is left out on {label}: {one.unsupported}")
                    continue
                teacher = teachers["softmax", label, seed].cell
                source = _digest(asked.teacher) if asked.teacher else teacher.key
                about = [source, one.cell.key, keep, asked.phases, asked.rate_share]
                key = hashlib.sha256(json.dumps(about).encode()).hexdigest()[:16]
                yield Run(key=key, scratch=one.cell, teacher=teacher, keep=keep)
    for words_ in sorted(refused):
        session.note(words_)


def _digest(folder: Any) -> str:
    """Hash of the files of a model, or a refusal."""
    files = sorted(folder.glob("*.json")) + sorted(folder.glob("*.safetensors"))
    if not files:
        raise ConfigError(
            f"teacher={folder} holds no model. It takes a folder with config.json and "
            "model.safetensors."
        )
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:16]


class _Teachers:
    """Each is trained, or loaded, once."""

    def __init__(self, asked: Convert, session: Session) -> None:
        self._asked, self._session = asked, session
        self._own: dict[str, Any] = {}

    def pair(self, run: Run, task: Task) -> tuple[nn.Module, Pupil, nn.Module]:
        """Teacher, the model to convert, and the control."""
        asked, cell = self._asked, run.scratch
        if asked.teacher is None:
            if run.teacher.key not in self._own:
                folder = asked.out / "checkpoints"
                self._own = {run.teacher.key: self._session.trained(run.teacher, folder)}
            teacher = self._own[run.teacher.key]
            return teacher, of_cell(cell, teacher), of_cell(cell, None).model
        teacher, drawn = load(asked.teacher, task)
        exchange = (cell.mechanism, cell.hyperparameters, run.keep)
        fresh = exchanged_in(drawn(cell.task.seed), *exchange)
        return teacher, exchanged_in(teacher, *exchange), fresh.model


def _convert(run: Run, asked: Convert, session: Session, teachers: _Teachers) -> Curve:
    began_s, work = cpu_s(), run.scratch.task
    task = build_task(work.task, work.settings)
    teacher, pupil, control = teachers.pair(run, task)

    def say(arm: str) -> Callable[[str], None]:
        return lambda words_: session.status(f"{run.describe()}, {arm}: {words_}")

    num_steps, seed = sum(asked.phases), work.seed
    whole = score_on_test_set(teacher, task, seed, torch.device("cpu"))
    made = converted(pupil, teacher, task, asked.phases, asked.rate_share, seed, say("converted"))
    anew = from_scratch(control, task, num_steps, seed, say("from scratch"))
    here = session.machine
    place = f"{machine_in_words(here.to_dict())}, commit {(here.commit or 'unknown')[:7]}"
    return Curve(
        key=run.key,
        task=work.label,
        attention=run.scratch.entry,
        keep=run.keep,
        seed=seed,
        phases=asked.phases,
        steps=looks(num_steps),
        converted=made,
        scratch=anew,
        teacher=whole,
        chance=task.chance(),
        unit=task.unit,
        train_s=cpu_s() - began_s,
        source=str(asked.teacher or f"a softmax model of {asked.num_layers} layers"),
        origin=f"{place}, {utc_now()[:10]}",
    )


# --- the page -------------------------------------------------------------------------------------


def write_page(store: Path, page: Path, command: str, tasks: Sequence[str] = ()) -> list[Path]:
    """Write the page of a store and its pictures; returns their paths. Nothing is trained.

    Raises:
        ConfigError: nothing is stored there, or a file cannot be written.
    """
    lines: Lines[Curve] = Lines(store / CURVES, Curve)
    curves = [curve for curve in lines.read() if not tasks or curve.task in tasks]
    drawn, _ = write_pictures([*charts(curves)], page.with_suffix(""))
    figures = [Figure(title, f"{page.stem}/{file.name}") for title, file in drawn]
    document = document_of(curves, command, figures, ())
    return [write(document, page), *(file for _, file in drawn)]


def document_of(
    curves: Sequence[Curve], command: str, figures: Sequence[Figure], notes: Sequence[str]
) -> Document:
    """Tables at the last step, pictures over all steps."""
    origins = "; ".join(sorted({curve.origin for curve in curves}))
    spent_min = sum(curve.train_s for curve in curves) / 60
    sources = " and ".join(sorted({curve.source for curve in curves}))
    phases = " or ".join(
        sorted({"{} + {} + {}".format(*curve.phases) for curve in curves}, key=len)
    )
    said = (
        f"{len(curves)} conversions of {sources}, each with its control; {phases} steps of "
        "matching outputs, distillation and fine-tuning."
    )
    took = f"Measured on {origins}, in {spent_min:.1f} core-minutes, by"
    blocks: list[Block] = [Text([took]), Command(command), Text([said], notes)]
    tasks = dict.fromkeys(curve.task for curve in curves)
    blocks += [_table(task, [c for c in curves if c.task == task]) for task in tasks]
    return Document(
        "Softmax models converted", [*blocks, Prose(prose(__file__, "how_to_read")), *figures]
    )


def charts(curves: Sequence[Curve]) -> Iterator[Chart]:
    """Pictures of each task."""
    for task in dict.fromkeys(curve.task for curve in curves):
        yield from _charts(task, [curve for curve in curves if curve.task == task])


def _groups(curves: Sequence[Curve]) -> dict[tuple[float, str], list[Curve]]:
    found: dict[tuple[float, str], list[Curve]] = {}
    for curve in curves:
        found.setdefault((curve.keep, curve.attention), []).append(curve)
    return dict(sorted(found.items(), key=lambda group: group[0][0]))


def _mean(values: Sequence[float | None]) -> Estimate | None:
    """Mean with its interval; None unless every seed has a value."""
    known = [value for value in values if value is not None]
    if len(known) < len(values) or not known:
        return None
    return Estimate(fmean(known), *(mean_interval(known) or ()))


def _table(task: str, curves: Sequence[Curve]) -> Table:
    unit = curves[0].unit
    shown, factor = (unit, 1.0) if unit else ("%", 0.01)
    within = (0.0, float("inf") if unit else 1.0)
    digits = ".2f" if unit else ".1f"
    score = partial(Column, unit=shown, factor=factor, digits=digits, within=within)
    columns = (
        words("attention"),
        Column("keep", "kept softmax", "%", 0.01, ".0f"),
        score("teacher"),
        score("matched", "after matching"),
        score("converted"),
        score("scratch", "from scratch"),
        Column("recovered", "recovered", "%", 0.01, ".0f", "higher"),
        Column("seeds", digits=".0f"),
    )
    rows: list[Row] = []
    for (keep, attention), own in _groups(curves).items():
        matched = next(i for i, s in enumerate(own[0].steps) if s >= own[0].phases[0])
        rows.append(
            {
                "attention": attention,
                "keep": keep,
                "teacher": fmean(c.teacher for c in own),
                "matched": _mean([c.converted[matched] for c in own]),
                "converted": _mean([c.converted[-1] for c in own]),
                "scratch": _mean([c.scratch[-1] for c in own]),
                "recovered": _mean([c.recovered(-1) for c in own]),
                "seeds": len(own),
            }
        )
    return Table(title=f"{task}, after {curves[0].steps[-1]} steps", columns=columns, rows=rows)


def _charts(task: str, curves: Sequence[Curve]) -> Iterator[Chart]:
    """Recovered share against steps, a chart for each share that was kept."""
    for keep in sorted({curve.keep for curve in curves}):
        lines: dict[str, list[list[float]]] = {}
        for (own_keep, attention), own in _groups(curves).items():
            means = [(s, _mean([c.recovered(i) for c in own])) for i, s in enumerate(own[0].steps)]
            points = [[float(s), 100 * m.value] for s, m in means if m is not None and s]
            if own_keep == keep and points:
                lines[attention] = points
        if lines:
            figure = Curves(
                title=f"{task}, {100 * keep:.0f} % of the layers kept softmax",
                x="steps",
                y="recovered of the teacher's lead over training from scratch (%)",
                lines=lines,
                is_log=False,
            )
            yield chart_of(f"recovered-{task}-keep-{100 * keep:.0f}", figure)
