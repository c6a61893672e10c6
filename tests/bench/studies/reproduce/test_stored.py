from dataclasses import replace
from typing import Any

import pytest

from bench.core.record import TRAINING_VERSION, Status
from bench.core.store import Store
from bench.studies.reproduce.described import Claim, criterion_of
from bench.studies.reproduce.findings import (
    SHARE,
    Finding,
    FindingRow,
    read_finding,
    write_finding,
)
from bench.studies.reproduce.runs import runs_of
from bench.studies.reproduce.stored import judgement, keep_all, read_all
from bench.studies.reproduce.verdicts import PaperVerdict
from tests.bench.studies.reproduce.given import CELL, PROTOCOL, RUNS, record
from tests.records import changed


def test_a_cell_is_judged_when_all_its_runs_are_there(tmp_path):
    records = [
        record(run, accuracy) for run, accuracy in zip(RUNS, (0.1, 0.4, 0.6, 0.3), strict=True)
    ]
    assert judgement(CELL, [], [tmp_path]).verdict is PaperVerdict.NOT_RUN
    part = judgement(CELL, records[:3], [tmp_path])
    assert (part.verdict, part.words) == (PaperVerdict.UNFINISHED, "3 of 4 runs are there")
    found = judgement(CELL, records, [tmp_path])
    assert found.verdict is PaperVerdict.ONE_SEED
    # The best of either variant, each with a test set of its own.
    assert found.words.startswith("50.0 (49.3 to 50.7, one seed")
    noisy = [changed(one, score_error=0.1) for one in records]
    assert "50.0 (36.1 to 63.9, one seed" in judgement(CELL, noisy, [tmp_path]).words
    records += [record(RUNS[i], 0.5, seed) for seed in (1, 2) for i in (1, 2)]
    assert judgement(CELL, records, [tmp_path]).verdict is PaperVerdict.REPRODUCED


def test_a_baseline_agrees_only_with_its_whole_interval(tmp_path):
    entry = replace(CELL, by="f")
    for low, high, verdict in (
        *((0.49, 0.51, PaperVerdict.AGREES), (0.4, 0.6, PaperVerdict.NOT_RESOLVABLE)),
        *((0.53, 0.6, PaperVerdict.DISAGREES), (0.4, 0.47, PaperVerdict.DISAGREES)),
    ):
        value = (low + high) / 2
        found = Finding(verdict=PaperVerdict.HOLDS, words="", value=value, low=low, high=high)
        write_finding(tmp_path, entry.id, found)
        assert judgement(entry, (), [tmp_path]).verdict is verdict
        assert judgement(entry, (), [tmp_path]).notes == ()
        write_finding(tmp_path, entry.id, replace(found, criterion=criterion_of(entry)))
        assert judgement(entry, (), [tmp_path]).notes == ()
        other = judgement(replace(entry, settings={"vocab_size": 9}), (), [tmp_path])
        assert other.notes == ("criterion changed after the run",)


def test_runs_of_an_earlier_training_version_are_said_to_be(tmp_path):
    old = [replace(record(run, 0.5), training_version=TRAINING_VERSION + 1) for run in RUNS]
    assert "training version" in judgement(CELL, old, [tmp_path]).notes[0]
    assert judgement(CELL, [record(run, 0.5) for run in RUNS], [tmp_path]).notes == ()


def test_a_run_that_diverged_has_nothing_right(tmp_path):
    records = [record(run) for run in RUNS[1:]]
    lost = replace(record(RUNS[0]), status=Status.DIVERGED, result=None, reason="nan")
    assert judgement(CELL, [*records, lost], [tmp_path]).words.startswith("50.0 (")


def test_a_cell_whose_runs_were_still_improving_says_so_where_it_differs(tmp_path):
    entry = replace(CELL, protocol=replace(PROTOCOL, grid={}, variants=({},)))
    (run,) = runs_of(entry.protocol)
    ended = [changed(record(run, 0.2, seed), ended="plateau") for seed in range(3)]
    assert "before it had settled" not in judgement(entry, ended, [tmp_path]).words
    ended[1] = changed(ended[1], ended="maximum")
    assert "before it had settled" in judgement(entry, ended, [tmp_path]).words


def test_what_a_mechanism_cannot_do_is_not_comparable(tmp_path):
    skipped = replace(record(RUNS[0]), status=Status.SKIPPED, result=None, reason="no causal form")
    found = judgement(CELL, [skipped], [tmp_path])
    assert (found.verdict, found.words) == (PaperVerdict.NOT_COMPARABLE, "no causal form")


def claim(**more):
    given: dict[str, Any] = {"settings": {"seeds": [0, 1, 2]}, "refuted_by": "it falls"} | more
    return Claim(
        id="claim", paper="Nobody", where="T", sentence="it grows", by="f", cost_s=1.0, **given
    )


def judged(entry, store, criterion):
    rows = (FindingRow(name="nala", value=0.5, rate=0.003),)
    finding = Finding(verdict=PaperVerdict.HOLDS, words="so", rows=rows, criterion=criterion)
    write_finding(store, "claim", finding)
    return judgement(entry, (), [store])


def test_a_finding_says_whether_its_criterion_is_still_that_of_the_entry(tmp_path):
    entry = claim()
    assert judged(entry, tmp_path, criterion_of(entry)).notes == ()
    assert judged(entry, tmp_path, "").notes == ("its criterion was not recorded",)
    changed = claim(refuted_by="it falls by a lot")
    assert judged(changed, tmp_path, criterion_of(entry)).notes == (
        "criterion changed after the run",
    )


def test_a_finding_of_an_earlier_training_version_is_said_to_be(tmp_path):
    rows = (FindingRow(name="nala", value=0.5, rate=0.003),)
    old = Finding(verdict=PaperVerdict.HOLDS, words="so", rows=rows, training_version=0)
    old = replace(old, criterion=criterion_of(claim()))
    write_finding(tmp_path, "claim", old)
    (note,) = judgement(claim(), (), [tmp_path]).notes
    assert note.startswith("its runs are of training version 0")
    measured = claim(settings={"num_seeds": 2})
    write_finding(tmp_path, "claim", replace(old, criterion=criterion_of(measured)))
    assert judgement(measured, (), [tmp_path]).notes == ()


def test_a_finding_names_the_arms_that_were_still_improving(tmp_path):
    ends = {"a": "plateau 2, ceiling 1", "b": "plateau 2, maximum 1", "c": "maximum 3"}
    rows = tuple(
        FindingRow(name=name, value=0.5, rate=0.003, ended=end, num_seeds=3)
        for name, end in ends.items()
    )
    finding = Finding(verdict=PaperVerdict.HOLDS, words="so", rows=rows)
    write_finding(tmp_path, "claim", replace(finding, criterion=criterion_of(claim())))
    assert judgement(claim(), (), [tmp_path]).notes == (
        "still improving when their steps were spent: b (1 of 3 seeds), c (3 of 3 seeds)",
    )


def test_a_trained_finding_without_rates_decides_nothing(tmp_path):
    finding = Finding(verdict=PaperVerdict.HOLDS, words="so", criterion=criterion_of(claim()))
    write_finding(tmp_path, "claim", finding)
    assert judgement(claim(), (), [tmp_path]).verdict is PaperVerdict.NO_VERDICT


@pytest.mark.parametrize("lowest", [0.94, 0.96])
def test_where_all_arms_are_at_the_ceiling_no_order_holds_or_fails(tmp_path, lowest):
    rows = tuple(
        FindingRow(name=name, value=value, rate=0.003, num_seeds=3)
        for name, value in (("a", lowest), ("b", 0.999))
    )
    for verdict in (PaperVerdict.HOLDS, PaperVerdict.DOES_NOT_HOLD):
        finding = Finding(verdict=verdict, words="so", rows=rows, unit=SHARE)
        write_finding(tmp_path, "claim", finding)
        found = judgement(claim(), (), [tmp_path])
        if lowest < 0.95:
            assert found.verdict is verdict
        else:
            assert found.verdict is PaperVerdict.NOT_DISCRIMINATED
            assert found.words == "all 2 arms score 96.0 to 99.9 %; so"


def test_a_stand_in_for_the_papers_condition_decides_nothing(tmp_path):
    found = judged(claim(not_tested="on real attention"), tmp_path, "")
    assert found.verdict is PaperVerdict.NO_VERDICT
    assert found.words == "not tested on real attention; so"


def test_a_claim_that_nothing_would_refute_has_no_verdict(tmp_path):
    found = judged(claim(refuted_by=""), tmp_path, "")
    assert found.verdict is PaperVerdict.NO_VERDICT
    assert found.words.startswith("its entry does not say what would refute it")


def test_a_trained_claim_needs_three_seeds_and_a_measured_one_none(tmp_path):
    for seeds, words in (([0], "2 more seeds are"), ([0, 1], "1 more seed is")):
        found = judged(claim(settings={"seeds": seeds}), tmp_path, "")
        assert found.verdict is PaperVerdict.ONE_SEED
        assert found.words == f"so; {words} missing for a verdict among the settings of its entry"
    assert judged(claim(settings={"num_seeds": 1}), tmp_path, "").verdict is PaperVerdict.HOLDS


def test_looks_have_seeds_of_their_own_whatever_the_entry_names(tmp_path):
    rows = (FindingRow(name="nala", value=0.5, rate=0.003),)
    finding = Finding(verdict=PaperVerdict.HOLDS, words="so", rows=rows, looks=(3, 12))
    write_finding(tmp_path, "claim", finding)
    found = judgement(claim(settings={"seeds": [0]}), (), [tmp_path])
    assert found.verdict is PaperVerdict.HOLDS


def test_what_one_store_has_is_copied_into_another_once(tmp_path):
    out, keep = tmp_path / "out", tmp_path / "keep"
    old = Finding(verdict=PaperVerdict.HOLDS, words="old", measured_at="2026-01-01T00:00:00Z")
    new = replace(old, words="new", measured_at="2026-01-02T00:00:00Z")
    write_finding(out, "claim", old)
    write_finding(keep, "claim", new)
    Store(out, "sweep").append(record(RUNS[0]))
    (written,) = keep_all(out, keep)
    assert written.parent == keep / "records"
    assert len(read_all((out, keep))) == 1
    Store(out, "again").append(replace(record(RUNS[0]), started_at="2026-01-04T00:00:00Z"))
    assert len(read_all((out, keep))) == 2  # force=true trained it again
    assert read_finding(keep, "claim") == new
    write_finding(out, "claim", replace(new, measured_at="2026-01-03T00:00:00Z"))
    assert "claim.json" in [file.name for file in keep_all(out, keep)]
    assert keep_all(out, keep) == []
