"""Curves of a store, and their page: a table and pictures for each task."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from pathlib import Path
from statistics import fmean
from typing import Annotated

from annotated_types import Len

from bench.core.cli.limits import Amount, Count, Number, Share
from bench.core.cli.limits import Text as Word
from bench.core.comparison import Difference, Runs, compare, signs
from bench.core.format import quantity
from bench.core.grouping import grouped
from bench.core.lines import Lines
from bench.core.seed_runs import FEWEST_SEEDS
from bench.core.statistics import mean_interval
from bench.measuring.tasks.recipe import Recipe
from bench.publishing.charts.plain import Curves, chart_of
from bench.publishing.charts.write import write_illustrated
from bench.publishing.document import (
    Block,
    Bullets,
    Chart,
    Column,
    Command,
    Document,
    Estimate,
    Prose,
    Row,
    Table,
    Text,
    words,
)
from bench.publishing.templates import prose

CURVES, TEACHERS = "curves.jsonl", "teachers.jsonl"

NOT_SEARCHED, AT_EDGE = "rate not searched", "rate at the edge of the search"
"""Marks of a curve that forbid a verdict."""

MIN_LEAD = 0.05
"""Lead of the teacher over the control, as a share of the teacher's lead over chance, below which
there is nothing to recover."""

_MOST = 10_000
"""Most scores of a curve."""
_Scores = Annotated[tuple[Number, ...], Len(1, _MOST)]


@dataclass(frozen=True, kw_only=True)
class Curve:
    """One conversion and its control.

    Attributes:
        key: hash of what was trained; a run whose key is stored is not trained again.
        keep: share of the layers that stay softmax.
        phases: steps of matching, distillation and fine-tuning.
        steps: steps at which both were scored, from 0 on.
        converted, scratch: scores at these steps, of the conversion and of its control.
        rates: their learning rates; None if they are the task's own.
        mark: why the two are not compared; empty if both rates were searched.
        teacher, chance: scores of the teacher and of guessing.
        train_s: CPU seconds of both arms at all their rates, and of the teacher if it was trained.
        source: what was converted, in words.
        origin: machine, commit and day.
    """

    key: Word
    task: Word
    attention: Word
    keep: Share
    seed: Count
    phases: tuple[Count, Count, Count]
    steps: Annotated[tuple[Count, ...], Len(1, _MOST)]
    converted: _Scores
    scratch: _Scores
    teacher: Number
    chance: Number
    unit: Word
    train_s: Amount
    source: Word
    origin: Word
    rates: tuple[Number, Number] | None = None
    mark: Word = NOT_SEARCHED

    @property
    def row(self) -> tuple[float, str]:
        """Share that was kept, and mechanism: curves that differ in their seed have one row."""
        return self.keep, self.attention

    def recovered(self, at: int) -> float | None:
        """Recovered share of the teacher's lead over the control, at an index of `steps`.

        None if the lead is below `MIN_LEAD`.
        """
        lead = self.teacher - self.scratch[at]
        whole = self.teacher - self.chance
        if whole == 0 or lead / whole < MIN_LEAD:
            return None
        return (self.converted[at] - self.scratch[at]) / lead


@dataclass(frozen=True, kw_only=True)
class Arm:
    """A conversion or its control, trained at one rate.

    Attributes:
        key: hash of what was trained; an arm whose key is stored is not trained again.
        scores: at the steps of `Curve`; empty if training diverged.
        validation: score on validation examples at the end; None if training diverged.
        train_s: CPU seconds, with those of the teacher if it was trained for this arm.
        arm, rate, run: ``converted`` or ``from scratch``, its learning rate, and the conversion as
            ``linear, keep 0.5, recall_causal, seed 0``; lines from before they were kept lack them.
    """

    key: Word
    scores: Annotated[tuple[Number, ...], Len(0, _MOST)]
    validation: Number | None
    train_s: Amount
    arm: Word = ""
    rate: Number | None = None
    run: Word = ""


@dataclass(frozen=True, kw_only=True)
class Ablated:
    """A teacher that was trained here: its score, and those without each of its mixers.

    Attributes:
        key: key of its cell.
        without: scores with the output of one mixer set to 0, in the order of the layers.
    """

    key: Word
    task: Word
    seed: Count
    score: Number
    without: _Scores


def write_page(
    store: Path, page: Path, command: str, tasks: Sequence[str] = (), notes: Sequence[str] = ()
) -> list[Path]:
    """Write the page of a store and its pictures; returns their paths. Nothing is trained.

    Raises:
        ConfigError: nothing is stored there, or a file cannot be written.
    """
    lines: Lines[Curve] = Lines(store / CURVES, Curve)
    curves = [curve for curve in lines.read() if not tasks or curve.task in tasks]
    teachers = Lines[Ablated](store / TEACHERS, Ablated).read(missing_ok=True)
    return write_illustrated(document_of(curves, teachers, command, notes), page)


def document_of(
    curves: Sequence[Curve], ablated: Sequence[Ablated], command: str, notes: Sequence[str]
) -> Document:
    """Tables at the last step, pictures over all steps; teachers of other tasks are left out."""
    groups = _comparable(curves)
    curves = [curve for own in groups.values() for curve in own]
    origins = "; ".join(sorted({curve.origin for curve in curves}))
    spent_min = sum(curve.train_s for curve in curves) / 60
    sources = " and ".join(sorted({curve.source for curve in curves}))
    phases = " or ".join(sorted({"{} + {} + {}".format(*curve.phases) for curve in curves}))
    said = (
        f"{quantity(len(curves), 'conversion')} of {sources}, each with its control; {phases} "
        "steps of matching outputs, distillation and fine-tuning."
    )
    took = f"Measured on {origins}, in {spent_min:.1f} core-minutes, by"
    blocks: list[Block] = [Text([took]), Command(command), Text([said], notes)]
    of_task, drawn = grouped(ablated, lambda one: one.task), list[Curve]()
    for name, own in groups.items():
        teachers = of_task.pop(own[0].task, ())
        least = min(curve.keep for curve in own)
        others = [curve for curve in own if curve.keep > least and _is_one(own, teachers)]
        shown = [curve for curve in own if curve not in others]
        drawn += shown
        blocks += [_table(name, shown, others), Bullets([*_not_run(name, shown)])]
        if teachers:
            blocks.append(_without(own[0].task, own[0].unit, teachers))
        if others:
            blocks.append(Text([_WHY_ONE]))
    blocks += [Prose(prose(__file__, "how_to_read")), *charts(drawn)]
    return Document("Softmax models converted", blocks)


_WHY_ONE = (
    "Every share of kept layers exchanges the mixers that matter to these teachers, so that a "
    "mechanism has one row: that of the smallest share, with the others' scores at its end. "
    "Trained from scratch, the kept layers may learn, and controls differ."
)


def _is_one(curves: Sequence[Curve], teachers: Sequence[Ablated]) -> bool:
    """Whether none of the layers that stay softmax at some share matters to a teacher.

    One matters if without it the teacher's lead over guessing falls by `MIN_LEAD`.
    """
    if not teachers:
        return False
    chance, num_layers = curves[0].chance, min(len(teacher.without) for teacher in teachers)
    kept = {
        layer
        for keep in {curve.keep for curve in curves}
        for layer, is_kept in enumerate(
            replace(
                _RECIPE, num_layers=num_layers, softmax_layers=round(keep * num_layers)
            ).is_softmax
        )
        if is_kept
    }
    return not any(
        (t.score - t.without[layer]) / (t.score - chance) >= MIN_LEAD
        for t in teachers
        for layer in kept
    )


_RECIPE = Recipe(num_steps=1, batch_size=1, learning_rate=1.0)


def _comparable(curves: Sequence[Curve]) -> dict[str, list[Curve]]:
    """The newest curve of each row and seed, by task.

    Where a task has several, also by steps of the phases and by what was converted.
    """
    newest = {(c.task, c.phases, c.source, c.row, c.seed): c for c in curves}
    groups = grouped(newest.values(), lambda curve: (curve.task, curve.phases, curve.source))
    count = Counter(task for task, *_ in groups)
    return {
        task + (count[task] > 1) * ", {} + {} + {} steps of {}".format(*phases, source): own
        for (task, phases, source), own in groups.items()
    }


def charts(curves: Sequence[Curve]) -> Iterator[Chart]:
    """Recovered share against steps, a picture for each table and share that was kept."""
    named = [(name, curve) for name, own in _comparable(curves).items() for curve in own]
    seen: Counter[str] = Counter()
    for (task, keep), pairs in grouped(named, lambda one: (one[0], one[1].keep)).items():
        own = [curve for _, curve in pairs]
        lines: dict[str, list[list[float]]] = {}
        for (_, attention), seeds in _rows(own).items():
            steps = enumerate(seeds[0].steps)
            means = [(s, _mean([c.recovered(i) for c in seeds])) for i, s in steps]
            if points := [[float(s), 100 * mean.value] for s, mean in means if mean and s]:
                lines[attention] = points
        figure = Curves(
            title=f"{task}, {100 * keep:.0f} % of the layers kept softmax",
            x="steps",
            y="recovered of the teacher's lead over training from scratch (%)",
            lines=lines,
            is_log=False,
        )
        if lines:
            file = f"recovered-{own[0].task}-keep-{100 * keep:.0f}"
            seen[file] += 1
            yield chart_of(file + f"-{seen[file]}" * (seen[file] > 1), figure)


def _rows(curves: Sequence[Curve]) -> dict[tuple[float, str], list[Curve]]:
    """Curves by row, one for each seed."""
    return grouped(sorted(curves, key=lambda curve: curve.row), lambda curve: curve.row)


def _mean(values: Sequence[float | None]) -> Estimate | None:
    """Mean with its interval; None unless every seed has a value."""
    known = [value for value in values if value is not None]
    if len(known) < len(values) or not known:
        return None
    return Estimate(fmean(known), *(mean_interval(known) or ()))


def _score(key: str, title: str = "", *, unit: str) -> Column:
    """A column of scores, in the task's unit or as shares of right answers."""
    factor, digits, most = (1.0, ".2f", float("inf")) if unit else (0.01, ".1f", 1.0)
    return Column(key, title, unit or "%", factor, digits, within=(0.0, most))


def _without(task: str, unit: str, teachers: Sequence[Ablated]) -> Table:
    layers = [str(i) for i in range(len(teachers[0].without))]
    columns = [_score(i, f"without mixer {int(i) + 1}", unit=unit) for i in layers]
    rows = [
        {"seed": t.seed, "score": t.score, **dict(zip(layers, t.without, strict=True))}
        for t in sorted(teachers, key=lambda t: t.seed)
    ]
    seed = Column("seed", digits=".0f")
    columns = [seed, _score("score", "teacher", unit=unit), *columns]
    return Table(title=f"{task}, teachers without one of their mixers", columns=columns, rows=rows)


def _table(task: str, curves: Sequence[Curve], others: Sequence[Curve] = ()) -> Table:
    """The table of a task; `others` are curves at further shares, which have no row."""
    score = partial(_score, unit=curves[0].unit)
    columns = [
        words("attention"),
        Column("keep", "kept softmax", "%", 0.01, ".0f"),
        score("teacher"),
        score("matched", "after matching"),
        score("converted"),
        score("scratch", "from scratch"),
        Column("recovered", "recovered", "%", 0.01, ".0f", "higher"),
        words("verdict", "against scratch"),
        Column("seeds", digits=".0f"),
        words("rates", "rates: converted, scratch"),
        words("mark", "marks"),
    ]
    rows = [*_rows(curves).values()]
    verdicts = signs([_against_scratch(own) for own in rows])
    shown = [dict(_row(own, _VERDICTS[sign])) for own, sign in zip(rows, verdicts, strict=True)]
    for keep, of_share in sorted(grouped(others, lambda curve: curve.keep).items()):
        for arm, title in (("converted", "converted"), ("scratch", "from scratch")):
            key = f"{arm} {keep}"
            columns.append(score(key, f"{title} ({100 * keep:.0f} % kept)"))
            for row in shown:
                ends = [getattr(c, arm)[-1] for c in of_share if c.attention == row["attention"]]
                row[key] = fmean(ends) if ends else None
    return Table(title=f"{task}, after {curves[0].steps[-1]} steps", columns=columns, rows=shown)


_VERDICTS = {1: "better", -1: "worse", 0: "undecided"}


def _against_scratch(own: Sequence[Curve]) -> Difference | None:
    """Comparison of a row with its control, seed by seed; None with too few seeds or a mark."""
    if len({curve.seed for curve in own}) < FEWEST_SEEDS or any(curve.mark for curve in own):
        return None
    converted = Runs(scores={c.seed: c.converted[-1] for c in own})
    scratch = Runs(scores={c.seed: c.scratch[-1] for c in own})
    return compare(converted, scratch, less_is_better=bool(own[0].unit))


def _row(own: Sequence[Curve], verdict: str) -> Row:
    matched = next(i for i, step in enumerate(own[0].steps) if step >= own[0].phases[0])
    return {
        "attention": own[0].attention,
        "keep": own[0].keep,
        "teacher": fmean(c.teacher for c in own),
        "matched": _mean([c.converted[matched] for c in own]),
        "converted": _mean([c.converted[-1] for c in own]),
        "scratch": _mean([c.scratch[-1] for c in own]),
        "recovered": _mean([c.recovered(-1) for c in own]),
        "verdict": verdict,
        "seeds": len(own),
        "rates": "{:g}, {:g}".format(*own[0].rates) if own[0].rates else "the task's",
        "mark": own[0].mark,
    }


def _not_run(task: str, curves: Sequence[Curve]) -> Iterator[str]:
    """Rows that lack a seed which another row of the task has."""
    rows, seeds = _rows(curves), {curve.seed for curve in curves}
    shares, names = (dict.fromkeys(part) for part in zip(*(c.row for c in curves), strict=True))
    for row in product(shares, names):
        own = {curve.seed for curve in rows.get(row, ())}
        if lacking := ", ".join(map(str, sorted(seeds - own))):
            yield f"Not run on {task}: {row[1]} with {100 * row[0]:.0f} % kept, seed {lacking}."
