"""Parts of a record that a comparison needs."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from bench.core.record import REFERENCE, Quality, Record, Speed, Status
from bench.core.statistics import MIN_ROUNDS, median, paired_ratio
from bench.studies.gate.exact import HIGHER_IS_WORSE
from bench.studies.gate.rows import ACCURACY, LATENCY
from bench.studies.gate.stored import Circumstances, Side, Stored, work_of
from bench.studies.gate.verdict import Interval


def side_of_records(records: Iterable[Record], words: str) -> Side:
    """The newest of each cell and machine, as one side of a comparison."""
    newest = sorted(records, key=lambda record: record.started_at)  # the last one of each counts
    commits = {str(r.environment.get("commit")) for r in newest}
    commit = commits.pop() if len(commits) == 1 else None
    of = f", commit {commit[:12]}" if commit and commit != "None" else ""
    return Side(
        words=words + of,
        commit=None if commit == "None" else commit,
        cells=tuple(stored(record) for record in newest),
        torch=frozenset(str(_versions(r).get("torch")) for r in newest),
    )


def stored(record: Record) -> Stored:
    """One record."""
    cell, facts = record.cell, record.environment
    result = record.result
    time, why_untimed = time_over_softmax(result) if isinstance(result, Speed) else (None, None)
    return Stored(
        entry=cell.entry,
        mechanism=cell.mechanism,
        key=cell.key,
        words=cell.describe(),
        work=work_of(cell),
        circumstances=Circumstances(
            method_version=record.method_version,
            processor=facts.get("processor"),
            device=facts.get("devices", {}).get(cell.device, cell.device),
            allocator=facts.get("allocator"),
            num_threads=cell.num_threads,
        ),
        time=time,
        why_untimed=why_untimed,
        latency_s=median(result.latency_s) if isinstance(result, Speed) else None,
        exact=_exact(result),
        failure=None if result is not None else f"{record.status}: {record.reason}",
        is_skipped=record.status is Status.SKIPPED,
        is_noisy=isinstance(result, Speed) and result.is_noisy,
        channel=ACCURACY if cell.is_task else LATENCY,
    )


def time_over_softmax(speed: Speed) -> tuple[Interval | None, str | None]:
    """Seconds per second of softmax in the same rounds, with its 95 % interval; or why not."""
    if speed.reference != REFERENCE:
        return None, f"it was timed against {speed.reference}, not against softmax"
    if speed.latency_s == speed.reference_latency_s:
        return None, "it is the reference itself, whose ratio to itself cannot move"
    faster = paired_ratio(
        speed.latency_s,
        speed.rounds,
        speed.reference_latency_s,
        speed.reference_rounds,
        speed.processes,
    )
    if faster is None:
        return None, "softmax was not timed with it"
    if faster.low is None or faster.high is None:
        return None, f"fewer than {MIN_ROUNDS} rounds carry no interval"
    return (
        Interval(median=1 / faster.median, low=1 / faster.high, high=1 / faster.low),
        None,
    )


def _exact(result: Speed | Quality | None) -> dict[str, float]:
    values = {name: getattr(result, name, None) for name in HIGHER_IS_WORSE}
    return {name: value for name, value in values.items() if value is not None}


def _versions(record: Record) -> dict[str, Any]:
    versions: dict[str, Any] = record.environment.get("versions", {})
    return versions
