"""What has been run of a described cell or claim: records of training, and findings. No torch.

Records lie under ``<out>/records``, as those of a sweep; a claim's finding is
``<out>/findings/<id>.json``.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from functools import cache
from pathlib import Path
from typing import Any

from bench.app.command import CONF, read_yaml
from bench.app.errors import ConfigError, did_you_mean
from bench.app.files import write_whole
from bench.publish.charts.plain import Curves
from bench.record import Quality, Record, Status
from bench.reproduce.papers import Claim, Contradiction, Described, PaperCell, Protocol
from bench.reproduce.verdicts import Judgement, Measured, Verdict, judge, score


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of a finding's numbers.

    Attributes:
        name: what was measured.
        value: the number, in `Finding.unit`.
        low, high: its 95 % interval over seeds; None where it is exact.
    """

    name: str
    value: float
    low: float | None = None
    high: float | None = None

    @property
    def number(self) -> str:
        """The value with four digits; what is left of a sum by rounding is 0."""
        return _number(self.value)

    @property
    def interval(self) -> str:
        """As ``-0.005 to -0.001``; empty where it is exact."""
        if self.low is None or self.high is None:
            return ""
        return f"{_number(self.low)} to {_number(self.high)}"


def _number(value: float) -> str:
    return "0" if abs(value) < _ROUNDING else f"{value:.4g}"


_ROUNDING = 1e-12


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What a claim's function found.

    Attributes:
        verdict: holds, does not hold, or holds where.
        words: the sentence that says so, with its numbers and their range.
        rows: the numbers.
        unit: of the numbers, in words.
        curves: what a figure shows; None for none.
        value, low, high: the one number that a published one is compared with; None for none.
        seconds: wall time, with that of runs which an earlier command stored.
        measured_at: UTC, ISO 8601.
        processor: of the machine.
        commit: of the checkout.
    """

    verdict: Verdict
    words: str
    rows: tuple[Row, ...] = ()
    unit: str = ""
    curves: Curves | None = None
    value: float | None = None
    low: float | None = None
    high: float | None = None
    seconds: float = 0.0
    measured_at: str = ""
    processor: str = ""
    commit: str = ""

    def to_json(self) -> str:
        """As it is stored."""
        return json.dumps(asdict(self), indent=1, allow_nan=False) + "\n"

    @classmethod
    def from_json(cls, content: str) -> Finding:
        """The inverse of `to_json`.

        Raises:
            ValueError, KeyError, TypeError: it is not one.
        """
        flat = json.loads(content)
        known = {f.name for f in fields(cls)}
        rows = tuple(Row(**row) for row in flat["rows"])
        curves = Curves(**flat["curves"]) if flat["curves"] else None
        given = {key: value for key, value in flat.items() if key in known}
        return cls(**given | {"verdict": Verdict(flat["verdict"]), "rows": rows, "curves": curves})


def finding_file(out: Path, name: str) -> Path:
    """Where a claim's finding is."""
    return out / "findings" / f"{name}.json"


def write_finding(out: Path, name: str, finding: Finding) -> Path:
    """Keep it; an earlier one of the same id is replaced."""
    return write_whole(finding_file(out, name), finding.to_json())


def read_finding(out: Path, name: str) -> Finding | None:
    """What is kept; None if nothing is.

    Raises:
        ConfigError: the file is not ours.
    """
    file = finding_file(out, name)
    if not file.is_file():
        return None
    try:
        return Finding.from_json(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(f"{file} does not hold a finding ({error!r}). Delete it.") from error


@dataclass(frozen=True, kw_only=True)
class Run:
    """One training run of a protocol.

    Attributes:
        label: the task's, in records: the protocol's name and what varies.
        variant, point: its place among the protocol's variants and in its grid.
        settings: what differs from the entry in conf/task.
    """

    label: str
    variant: int
    point: int
    settings: dict[str, Any]


def runs_of(protocol: Protocol) -> Iterator[Run]:
    """All runs of one seed, by variant and point of the grid."""
    points = [
        dict(zip(protocol.grid, values, strict=True))
        for values in itertools.product(*protocol.grid.values())
    ]
    for number, variant in enumerate(protocol.variants):
        for place, point in enumerate(points):
            words = "".join(f" {key}={value}" for key, value in (variant | point).items())
            yield Run(
                label=protocol.name + words,
                variant=number,
                point=place,
                settings=protocol.settings | variant | point,
            )


def entry_of(group: str, name: str) -> dict[str, Any]:
    """The settings of an entry of conf/<group>.

    Raises:
        ConfigError: there is none; the message names the nearest ones.
    """
    return dict(_read_entry(group, name))


@cache
def _read_entry(group: str, name: str) -> dict[str, Any]:
    file = CONF / group / f"{name}.yaml"
    if not file.is_file():
        known = [path.stem for path in (CONF / group).glob("*.yaml")]
        raise ConfigError(f"{group}={name}: there is no such {group}. {did_you_mean(name, known)}")
    (settings,) = read_yaml(file).values()
    return dict(settings)


def row_of(cell: PaperCell) -> dict[str, Any]:
    """The mechanism and all its hyperparameters."""
    return entry_of("attention", cell.attention) | cell.hyperparameters


def task_of(protocol: Protocol, run: Run) -> dict[str, Any]:
    """The task and all its settings."""
    return entry_of("task", protocol.task) | run.settings


def is_of(record: Record, cell: PaperCell, run: Run) -> bool:
    """Whether a record is of a cell's run; settings that came after it do not matter."""
    assert cell.protocol is not None
    row, task = row_of(cell), task_of(cell.protocol, run)
    mechanism, name = row.pop("mechanism"), task.pop("task")
    work = record.cell.task
    return (
        record.cell.mechanism == mechanism
        and work.task == name
        and all(row.get(key, value) == value for key, value in record.cell.hyperparameters.items())
        and all(task.get(key, value) == value for key, value in work.settings.items())
    )


def records_of(
    cell: PaperCell, records: Sequence[Record]
) -> dict[int, dict[tuple[int, int], Record]]:
    """The newest record of each run that is there, by seed, variant and point."""
    found: dict[int, dict[tuple[int, int], Record]] = {}
    if cell.protocol is None or not cell.attention:
        return found
    runs = {run.label: run for run in runs_of(cell.protocol)}
    for record in sorted(records, key=lambda record: record.started_at):
        run = runs.get(record.cell.task.label) if record.cell.is_task else None
        if run is not None and record.cell.entry == cell.attention and is_of(record, cell, run):
            own = found.setdefault(record.cell.task.seed, {})
            own[run.variant, run.point] = record
    return found


def judgement(entry: Described, records: Sequence[Record], out: Path) -> Judgement:
    """How an entry stands, by what is stored."""
    if isinstance(entry, Contradiction):
        return Judgement(verdict=Verdict.NOT_COMPARABLE, words="published values disagree")
    if isinstance(entry, Claim):
        return _of_finding(read_finding(out, entry.id))
    if entry.not_comparable:
        return Judgement(verdict=Verdict.NOT_COMPARABLE, words=entry.not_comparable)
    if entry.by:
        return _of_measured(entry, read_finding(out, entry.id))
    return _of_records(entry, records_of(entry, records))


def train_s(entry: PaperCell, records: Sequence[Record]) -> float:
    """Seconds that its stored runs took, added up; two may have run at a time."""
    runs = (r for own in records_of(entry, records).values() for r in own.values())
    return sum(r.result.train_s or 0.0 for r in runs if isinstance(r.result, Quality))


_NOT_RUN = Judgement(verdict=Verdict.NOT_RUN, words="")


def _of_finding(finding: Finding | None) -> Judgement:
    if finding is None:
        return _NOT_RUN
    return Judgement(verdict=finding.verdict, words=finding.words, value=finding.value)


def _of_measured(entry: PaperCell, finding: Finding | None) -> Judgement:
    """Of a number that a function measures, with an interval of its own."""
    if finding is None or finding.value is None:
        return _NOT_RUN
    low = finding.value if finding.low is None else finding.low
    high = finding.value if finding.high is None else finding.high
    interval = "" if finding.low is None else f" ({100 * low:.1f} to {100 * high:.1f})"
    difference = 100 * (finding.value - entry.published)
    words = f"{100 * finding.value:.1f}{interval} {finding.words}"
    if entry.published - entry.tolerance <= low and high <= entry.published + entry.tolerance:
        verdict = Verdict.REPRODUCED
    elif high < entry.published - entry.tolerance or low > entry.published + entry.tolerance:
        verdict, words = Verdict.DIFFERS, f"by {difference:+.1f} points: {words}"
    else:
        verdict = Verdict.NOT_RESOLVABLE
    return Judgement(verdict=verdict, words=words, value=finding.value, low=low, high=high)


def _of_records(
    entry: PaperCell, by_seed: Mapping[int, Mapping[tuple[int, int], Record]]
) -> Judgement:
    protocol = entry.protocol
    assert protocol is not None
    num_variants = len(protocol.variants)
    num_points = len(list(runs_of(protocol))) // num_variants
    for own in by_seed.values():
        for record in own.values():
            if record.status is Status.SKIPPED:
                return Judgement(verdict=Verdict.NOT_COMPARABLE, words=str(record.reason))
    whole, num_runs = [], 0
    for own in by_seed.values():
        scores = {place: found for place, r in own.items() if (found := _score(r)) is not None}
        num_runs += len(scores)
        total = score(scores, num_variants, num_points)
        if total is not None:
            whole.append((total, own))
    if not whole:
        if not num_runs:
            return _NOT_RUN
        words = f"{num_runs} of {num_variants * num_points} runs are there"
        return Judgement(verdict=Verdict.UNFINISHED, words=words)
    results = [r.result for _, own in whole for r in own.values() if isinstance(r.result, Quality)]
    num_answers = min(result.num_examples for result in results) * num_variants
    by_steps = num_variants * num_points == 1 and not all(r.has_settled for r in results)
    measured = Measured(
        scores=tuple(total for total, _ in whole), num_answers=num_answers, by_steps=by_steps
    )
    return judge(entry.published, entry.tolerance, measured)


def _score(record: Record) -> float | None:
    """The share of right answers; none of a run that left the finite numbers."""
    if isinstance(record.result, Quality):
        return record.result.accuracy
    return 0.0 if record.status is Status.DIVERGED else None
