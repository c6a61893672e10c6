"""Judge a described entry by its stored records and findings. No torch.

Records lie under ``<folder>/records``, as those of a sweep; findings under ``<folder>/findings``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from bench.core.cli.files import write_whole
from bench.core.cli.stored_files import MAX_LINES_BYTES, read_inside, regular_files
from bench.core.record import TRAINING_VERSION, Quality, Record, Status
from bench.core.store import read_records
from bench.studies.reproduce.described import (
    Claim,
    Contradiction,
    Described,
    PaperCell,
    criterion_of,
)
from bench.studies.reproduce.findings import (
    Finding,
    FindingRow,
    finding_file,
    newest_finding,
    read_finding,
    write_finding,
)
from bench.studies.reproduce.runs import (
    Run,
    chosen_by,
    entry_of,
    is_of,
    next_runs,
    origins,
    records_of,
    row_of,
    runs_of,
    scores_of,
    task_of,
    whole_scores,
)
from bench.studies.reproduce.verdicts import (
    FEWEST_SEEDS,
    Judgement,
    Measured,
    PaperVerdict,
    judge,
    seeds_missing,
)

__all__ = [
    "Finding",
    "FindingRow",
    "Run",
    "entry_of",
    "finding_file",
    "is_of",
    "judgement",
    "keep_all",
    "newest_finding",
    "next_runs",
    "origins",
    "read_all",
    "read_finding",
    "records_of",
    "row_of",
    "runs_of",
    "task_of",
    "train_s",
    "write_finding",
]


def read_all(stores: Sequence[Path]) -> tuple[Record, ...]:
    """The records of several folders, each once; a folder may be missing."""
    found = [record for store in stores for record in read_records(store, missing_ok=True)]
    seen = {(r.cell.key, r.cell.task.seed if r.cell.is_task else 0, r.started_at): r for r in found}
    return tuple(seen.values())


def keep_all(out: Path, keep: Path) -> list[Path]:
    """Copy findings and records of one store into another; returns the files that were written.

    A finding replaces one that was measured earlier. A file of records belongs to one command, and
    is copied whole unless it is there already.
    """
    written = []
    for file in regular_files(out, "findings/*.json"):
        new, old = read_finding(out, file.stem), read_finding(keep, file.stem)
        if new is not None and (old is None or old.measured_at < new.measured_at):
            written.append(write_finding(keep, file.stem, new))
    for file in regular_files(out, "records/*.jsonl"):
        target = keep / "records" / file.name
        content = read_inside(out, file, MAX_LINES_BYTES)
        if _bytes_of(keep, target) != content:
            written.append(write_whole(target, content, inside=keep, like=[file]))
    return written


def _bytes_of(root: Path, file: Path) -> bytes | None:
    """The content of a file of records; None if it is not there."""
    try:
        return read_inside(root, file, MAX_LINES_BYTES)
    except (FileNotFoundError, NotADirectoryError):
        return None


def judgement(entry: Described, records: Sequence[Record], stores: Sequence[Path]) -> Judgement:
    """Judge an entry by its stored results.

    Args:
        entry: a cell, a claim or a contradiction.
        records: of training, from all stores.
        stores: folders that keep findings; the newest finding counts.
    """
    if isinstance(entry, Contradiction):
        return Judgement(verdict=PaperVerdict.NOT_COMPARABLE, words="published values disagree")
    if isinstance(entry, Claim):
        return _of_finding(entry, newest_finding(stores, entry.id))
    if entry.not_comparable:
        return Judgement(verdict=PaperVerdict.NOT_COMPARABLE, words=entry.not_comparable)
    if entry.by:
        return _of_measured(entry, newest_finding(stores, entry.id))
    return _of_records(entry, records_of(entry, records))


def train_s(entry: PaperCell, records: Sequence[Record]) -> float:
    """Seconds that its stored runs took, added up; two may have run at a time."""
    runs = (r for own in records_of(entry, records).values() for r in own.values())
    return sum(r.result.train_s or 0.0 for r in runs if isinstance(r.result, Quality))


_NOT_RUN = Judgement(verdict=PaperVerdict.NOT_RUN, words="")
_DECIDED = (PaperVerdict.HOLDS, PaperVerdict.HOLDS_WHERE, PaperVerdict.DOES_NOT_HOLD)


def _of_finding(entry: Claim, finding: Finding | None) -> Judgement:
    """A claim's verdict, where its entry and its seeds allow one."""
    if finding is None:
        return _NOT_RUN
    notes: tuple[str, ...] = ()
    if not finding.criterion:
        notes = ("its criterion was not recorded",)
    elif finding.criterion != criterion_of(entry):
        notes = ("criterion changed after the run",)
    verdict, words = finding.verdict, finding.words
    # A function that trains has the setting `seeds`; one that only measures has not.
    seeds = entry.settings.get("seeds")
    if seeds is not None and all(row.rate is None for row in finding.rows):
        notes = (*notes, "the rates of its arms were not recorded")
        if verdict in _DECIDED:
            verdict = PaperVerdict.NO_VERDICT
    if not entry.refuted_by:
        verdict = PaperVerdict.NO_VERDICT
        words = f"its entry does not say what would refute it (refuted_by); {words}"
    elif seeds is not None and not finding.looks and len(seeds) < FEWEST_SEEDS:
        verdict = PaperVerdict.ONE_SEED
        missing = seeds_missing(len(seeds)).partition(":")[0]
        words = f"{words}; {missing} among the settings of its entry"
    return Judgement(verdict=verdict, words=words, value=finding.value, notes=notes)


def _of_measured(entry: PaperCell, finding: Finding | None) -> Judgement:
    """Judge a baseline without training, by whether a function's number agrees with the published.

    Agreement is not called a reproduction, since nothing was learned.
    """
    if finding is None or finding.value is None:
        return _NOT_RUN
    low = finding.value if finding.low is None else finding.low
    high = finding.value if finding.high is None else finding.high
    interval = "" if finding.low is None else f" ({100 * low:.1f} to {100 * high:.1f})"
    difference = 100 * (finding.value - entry.published)
    words = f"{100 * finding.value:.1f}{interval} {finding.words}"
    if entry.published - entry.tolerance <= low and high <= entry.published + entry.tolerance:
        verdict = PaperVerdict.AGREES
    elif high < entry.published - entry.tolerance or low > entry.published + entry.tolerance:
        verdict, words = PaperVerdict.DISAGREES, f"by {difference:+.1f} points: {words}"
    else:
        verdict = PaperVerdict.NOT_RESOLVABLE
    return Judgement(verdict=verdict, words=words, value=finding.value, low=low, high=high)


def _error_of_mean(results: Sequence[Quality], num_seeds: int) -> float | None:
    """Standard error, over test examples, of a seed's mean over variants; None if not all have one.

    Each variant has its own test set, which all seeds share.
    """
    errors = [result.score_error for result in results if result.score_error is not None]
    if len(errors) < len(results):
        return None
    return math.sqrt(sum(error**2 for error in errors) / num_seeds) / (len(errors) / num_seeds)


def _of_records(
    entry: PaperCell, by_seed: Mapping[int, Mapping[tuple[int, int], Record]]
) -> Judgement:
    protocol = entry.protocol
    assert protocol is not None
    for own in by_seed.values():
        for record in own.values():
            if record.status is Status.SKIPPED:
                return Judgement(verdict=PaperVerdict.NOT_COMPARABLE, words=str(record.reason))
    scores = scores_of(by_seed)
    totals, num_runs = whole_scores(protocol, scores), len(list(runs_of(protocol)))
    if not totals:
        num_there = sum(map(len, scores.values()))
        if not num_there:
            return _NOT_RUN
        words = f"{num_there} of {num_runs} runs are there"
        return Judgement(verdict=PaperVerdict.UNFINISHED, words=words)
    points = chosen_by(protocol, scores)
    assert points is not None
    counted = [by_seed[seed][place] for seed in totals for place in enumerate(points)]
    results = [r.result for r in counted if isinstance(r.result, Quality)]
    num_answers = min((result.num_examples for result in results), default=1) * len(
        protocol.variants
    )
    by_steps = num_runs == 1 and not all(r.has_settled for r in results)
    measured = Measured(
        scores=tuple(totals.values()),
        num_answers=num_answers,
        error=_error_of_mean(results, len(totals)),
        by_steps=by_steps,
    )
    found = judge(entry.published, entry.tolerance, measured)
    version = counted[0].training_version
    if version == TRAINING_VERSION:
        return found
    note = f"its runs are of training version {version}, today's is {TRAINING_VERSION}"
    return replace(found, notes=(note,))
