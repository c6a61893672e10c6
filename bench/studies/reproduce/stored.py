"""Judge a described entry by its stored records and findings. No torch.

Records lie under ``<folder>/records``, as those of a sweep; findings under ``<folder>/findings``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from bench.core.cli.files import write_whole
from bench.core.comparison import Runs
from bench.core.record import TRAINING_VERSION, Quality, Record, Status
from bench.core.seed_runs import FEWEST_SEEDS
from bench.core.store import read_records
from bench.studies.reproduce.described import (
    Claim,
    Contradiction,
    Described,
    PaperCell,
    criterion_of,
)
from bench.studies.reproduce.findings import (
    SHARE,
    Finding,
    newest_finding,
    read_finding,
    write_finding,
)
from bench.studies.reproduce.runs import (
    BySeed,
    chosen_by,
    records_of,
    runs_of,
    scores_of,
    whole_scores,
)
from bench.studies.reproduce.verdicts import (
    DECIDED,
    Judgement,
    PaperVerdict,
    at_ceiling,
    judge,
    seeds_missing,
)

_CHANGED = "criterion changed after the run"


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
    for file in sorted(out.glob("findings/*.json")):
        new, old = read_finding(out, file.stem), read_finding(keep, file.stem)
        if new is not None and (old is None or old.measured_at < new.measured_at):
            written.append(write_finding(keep, file.stem, new))
    for file in sorted(out.glob("records/*.jsonl")):
        target, content = keep / "records" / file.name, file.read_bytes()
        if not target.exists() or target.read_bytes() != content:
            written.append(write_whole(target, content, inside=keep))
    return written


def judgement(entry: Described, records: Sequence[Record], stores: Sequence[Path]) -> Judgement:
    """Judge an entry by its stored results.

    Args:
        entry: a cell, a claim or a contradiction.
        records: of training, from all stores.
        stores: folders that keep findings; the newest finding counts.
    """
    if isinstance(entry, Contradiction):
        return Judgement(PaperVerdict.NOT_COMPARABLE, "published values disagree")
    if isinstance(entry, PaperCell) and entry.not_comparable:
        return Judgement(PaperVerdict.NOT_COMPARABLE, entry.not_comparable)
    if isinstance(entry, PaperCell) and not entry.by:
        return _of_records(entry, records_of(entry, records))
    finding = newest_finding(stores, entry.id)
    if finding is None:
        return Judgement(PaperVerdict.NOT_RUN)
    if isinstance(entry, Claim):
        return _of_finding(entry, finding)
    return _of_measured(entry, finding)


def _of_finding(entry: Claim, finding: Finding) -> Judgement:
    """A claim's verdict, where its entry and its seeds allow one."""
    notes: tuple[str, ...] = ()
    if not finding.criterion:
        notes = ("its criterion was not recorded",)
    elif finding.criterion != criterion_of(entry):
        notes = (_CHANGED,)
    verdict, words, seeds = finding.verdict, finding.words, entry.seeds
    if seeds is not None and finding.training_version != TRAINING_VERSION:
        notes = (*notes, _old_training(finding.training_version))
    if seeds is not None and all(row.rate is None for row in finding.rows):
        notes = (*notes, "the rates of its arms were not recorded")
        if verdict in DECIDED:
            verdict = PaperVerdict.NO_VERDICT
    if unsettled := [row for row in finding.rows if row.num_unsettled]:
        told = (f"{row.name} ({row.num_unsettled} of {row.num_seeds} seeds)" for row in unsettled)
        notes = (*notes, f"still improving when their steps were spent: {', '.join(told)}")
    scores = [row.value for row in finding.rows if row.num_seeds]
    if verdict in DECIDED and finding.unit == SHARE and (together := at_ceiling(scores)):
        verdict, words = PaperVerdict.NOT_DISCRIMINATED, f"{together}; {words}"
    if entry.not_tested:
        verdict, words = PaperVerdict.NO_VERDICT, f"not tested {entry.not_tested}; {words}"
    if not entry.refuted_by:
        verdict = PaperVerdict.NO_VERDICT
        words = f"its entry does not say what would refute it (refuted_by); {words}"
    elif seeds is not None and not finding.looks and len(seeds) < FEWEST_SEEDS:
        verdict = PaperVerdict.ONE_SEED
        missing = seeds_missing(len(seeds)).partition(":")[0]
        words = f"{words}; {missing} among the settings of its entry"
    return Judgement(verdict, words, notes)


def _of_measured(entry: PaperCell, finding: Finding) -> Judgement:
    """Judge a baseline without training, by whether a function's number agrees with the published.

    Agreement is not called a reproduction, since nothing was learned.
    """
    if (value := finding.value) is None:
        return Judgement(PaperVerdict.NOT_RUN)
    low = value if finding.low is None else finding.low
    high = value if finding.high is None else finding.high
    interval = "" if finding.low is None else f" ({100 * low:.1f} to {100 * high:.1f})"
    words = f"{100 * value:.1f}{interval} {finding.words}"
    is_other = bool(finding.criterion) and finding.criterion != criterion_of(entry)
    notes = (_CHANGED,) if is_other else ()
    if entry.published - entry.tolerance <= low and high <= entry.published + entry.tolerance:
        return Judgement(PaperVerdict.AGREES, words, notes)
    if high < entry.published - entry.tolerance or low > entry.published + entry.tolerance:
        difference = f"by {100 * (value - entry.published):+.1f} points"
        return Judgement(PaperVerdict.DISAGREES, f"{difference}: {words}", notes)
    return Judgement(PaperVerdict.NOT_RESOLVABLE, words, notes)


def _of_records(entry: PaperCell, by_seed: BySeed[Record]) -> Judgement:
    protocol = entry.protocol
    assert protocol is not None
    for record in (record for own in by_seed.values() for record in own.values()):
        if record.status is Status.SKIPPED:
            return Judgement(PaperVerdict.NOT_COMPARABLE, str(record.reason))
    scores, num_runs = scores_of(by_seed), len(runs_of(protocol))
    chosen = chosen_by(protocol, scores) or []
    totals = whole_scores(chosen, scores) if chosen else {}
    if not totals:
        if not (num_there := sum(map(len, scores.values()))):
            return Judgement(PaperVerdict.NOT_RUN)
        return Judgement(PaperVerdict.UNFINISHED, f"{num_there} of {num_runs} runs are there")
    counted = [by_seed[seed][run.label] for seed in totals for run in chosen]
    results = [r.result for r in counted if isinstance(r.result, Quality)]
    runs = Runs(
        scores=totals,
        error=_error_of_mean(results, len(totals)),
        # Each variant has its own test set, which all seeds share.
        num_examples=min((r.num_examples for r in results), default=1) * len(protocol.variants),
    )
    has_settled = num_runs > 1 or all(r.has_settled for r in results)
    found = judge(entry.published, entry.tolerance, runs, has_settled=has_settled)
    version = counted[0].training_version
    if version == TRAINING_VERSION:
        return found
    return replace(found, notes=(_old_training(version),))


def _old_training(version: int) -> str:
    return f"its runs are of training version {version}, today's is {TRAINING_VERSION}"


def _error_of_mean(results: Sequence[Quality], num_seeds: int) -> float | None:
    """Standard error, over test examples, of a seed's mean over variants; None if unknown."""
    errors = [result.score_error for result in results if result.score_error is not None]
    if not errors or len(errors) < len(results):
        return None
    return math.sqrt(sum(error**2 for error in errors) / num_seeds) / (len(errors) / num_seeds)
