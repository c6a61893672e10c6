"""The page of conversions: a table and pictures of each task, from the curves of a store."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from itertools import groupby, product
from pathlib import Path
from statistics import fmean

from bench.core.comparison import Runs, compare, holm
from bench.core.lines import Lines
from bench.core.statistics import mean_interval
from bench.publishing.charts.plain import Curves, chart_of
from bench.publishing.charts.spec import Chart
from bench.publishing.charts.write import write_illustrated
from bench.publishing.document import (
    Block,
    Bullets,
    Column,
    Command,
    Document,
    Estimate,
    Figure,
    Prose,
    Table,
    Text,
    Value,
    words,
)
from bench.publishing.templates import prose
from bench.studies.convert.curve import CURVES, TEACHERS, Ablated, Curve

FEWEST_SEEDS = 3
"""Smallest number of seeds with which a row is compared with its control."""


def write_page(
    store: Path, page: Path, command: str, tasks: Sequence[str] = (), notes: Sequence[str] = ()
) -> list[Path]:
    """Write the page of a store and its pictures; returns their paths. Nothing is trained.

    Raises:
        ConfigError: nothing is stored there, or a file cannot be written.
    """
    lines: Lines[Curve] = Lines(store / CURVES, Curve)
    curves = [curve for curve in lines.read() if not tasks or curve.task in tasks]
    teachers: Lines[Ablated] = Lines(store / TEACHERS, Ablated)
    shown = {curve.task for curve in curves}
    ablated = [one for one in teachers.read(missing_ok=True) if one.task in shown]
    document = partial(document_of, curves, ablated, command, notes)
    return write_illustrated(page, charts(curves), document)


def document_of(
    curves: Sequence[Curve],
    ablated: Sequence[Ablated],
    command: str,
    notes: Sequence[str],
    figures: Sequence[Figure],
) -> Document:
    """Tables at the last step, pictures over all steps."""
    origins = "; ".join(sorted({curve.origin for curve in curves}))
    spent_min = sum(curve.train_s for curve in curves) / 60
    sources = " and ".join(sorted({curve.source for curve in curves}))
    phases = " or ".join(sorted({"{} + {} + {}".format(*curve.phases) for curve in curves}))
    said = (
        f"{len(curves)} conversions of {sources}, each with its control; {phases} steps of "
        "matching outputs, distillation and fine-tuning."
    )
    took = f"Measured on {origins}, in {spent_min:.1f} core-minutes, by"
    blocks: list[Block] = [Text([took]), Command(command), Text([said], notes)]
    for task in dict.fromkeys(curve.task for curve in curves):
        own = [curve for curve in curves if curve.task == task]
        teachers = [one for one in ablated if one.task == task]
        blocks += [_table(task, own), Bullets([*_not_run(task, own)])]
        blocks += [_without(task, own[0].unit, teachers)] if teachers else []
    return Document(
        "Softmax models converted", [*blocks, Prose(prose(__file__, "how_to_read")), *figures]
    )


def charts(curves: Sequence[Curve]) -> Iterator[Chart]:
    """Recovered share against steps, a picture for each task and share that was kept."""
    for task, keep in dict.fromkeys((curve.task, curve.keep) for curve in curves):
        lines: dict[str, list[list[float]]] = {}
        for own in _rows([c for c in curves if (c.task, c.keep) == (task, keep)]):
            means = [(s, _mean([c.recovered(i) for c in own])) for i, s in enumerate(own[0].steps)]
            if points := [[float(s), 100 * mean.value] for s, mean in means if mean and s]:
                lines[own[0].attention] = points
        figure = Curves(
            title=f"{task}, {100 * keep:.0f} % of the layers kept softmax",
            x="steps",
            y="recovered of the teacher's lead over training from scratch (%)",
            lines=lines,
            is_log=False,
        )
        if lines:
            yield chart_of(f"recovered-{task}-keep-{100 * keep:.0f}", figure)


def _row(curve: Curve) -> tuple[float, str]:
    return curve.keep, curve.attention


def _rows(curves: Sequence[Curve]) -> list[list[Curve]]:
    """Curves grouped by the share that was kept and by mechanism, one per seed."""
    return [list(own) for _, own in groupby(sorted(curves, key=_row), key=_row)]


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


def _table(task: str, curves: Sequence[Curve]) -> Table:
    score = partial(_score, unit=curves[0].unit)
    columns = (
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
    )
    rows, all_rows = list[dict[str, Value]](), _rows(curves)
    for own, verdict in zip(all_rows, _verdicts(all_rows), strict=True):
        matched = next(i for i, s in enumerate(own[0].steps) if s >= own[0].phases[0])
        rows.append(
            {
                "attention": own[0].attention,
                "keep": own[0].keep,
                "teacher": fmean(c.teacher for c in own),
                "matched": _mean([c.converted[matched] for c in own]),
                "converted": _mean([c.converted[-1] for c in own]),
                "scratch": _mean([c.scratch[-1] for c in own]),
                "recovered": _mean([c.recovered(-1) for c in own]),
                "verdict": verdict,
                "seeds": len(own),
                "rates": "task's own"
                if own[0].rates is None
                else "{:g}, {:g}".format(*own[0].rates),
                "mark": own[0].mark,
            }
        )
    return Table(title=f"{task}, after {curves[0].steps[-1]} steps", columns=columns, rows=rows)


def _verdicts(rows: Sequence[Sequence[Curve]]) -> Iterator[str]:
    """Verdict on each row against its control: paired by seed, Holm's correction over all rows."""
    found = [
        compare(
            Runs(scores={c.seed: c.converted[-1] for c in own}),
            Runs(scores={c.seed: c.scratch[-1] for c in own}),
            less_is_better=bool(own[0].unit),
        )
        for own in rows
    ]
    known = [
        each if each and each.num_seeds >= FEWEST_SEEDS and not any(c.mark for c in own) else None
        for each, own in zip(found, rows, strict=True)
    ]
    stands = holm([each.p_value if each else 1.0 for each in known])
    for each, is_decided in zip(known, stands, strict=True):
        way = "better" if each and each.ahead > 0.5 else "worse"
        yield way if is_decided else "undecided"


def _not_run(task: str, curves: Sequence[Curve]) -> Iterator[str]:
    """Rows that lack a seed which another row of the task has."""
    seeds = {curve.seed for curve in curves}
    shares, names = ({getattr(c, key): 0 for c in curves} for key in ("keep", "attention"))
    for keep, attention in product(shares, names):
        own = {curve.seed for curve in curves if _row(curve) == (keep, attention)}
        if lacking := ", ".join(map(str, sorted(seeds - own))):
            yield f"Not run on {task}: {attention} with {100 * keep:.0f} % kept, seed {lacking}."
