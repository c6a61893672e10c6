"""Answers from stored records: who fulfils the needs, who cannot be told apart, what would tell."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from bench.advise import main
from bench.core.rows import settings_of
from bench.publishing.metrics.scaling import seconds_at
from bench.studies.advise.evidence import (
    DEARER,
    NOT_COMPARED,
    TIED,
    Candidate,
    cost_at,
    told_apart,
)
from tests.bench.core.test_spans import records as ladder
from tests.records import (
    block_records,
    changed,
    kernel_cell,
    ok_record,
    speed,
    stored,
    task_records,
)


@pytest.fixture
def store(tmp_path):
    """Forward calls at three lengths, and recall over three seeds."""
    records = [
        record
        for length in (256, 1024, 4096)
        for record in block_records(("softmax", "linear", "nala", "nala_cosine"), seq_len=length)
    ]
    records += task_records(("softmax", "linear", "nala", "performer"), seeds=range(3))
    return kept(tmp_path, records)


def ask(store, *words):
    return main([f"records=[{store}]", *words])


def test_the_cheapest_that_reaches_the_score_is_named(store, exits):
    said = exits(0, ask(store, "task=recall", "score=90"))
    first, second = (line for line in said.splitlines()[1:3])
    assert first == "forward, 4,096 tokens" and re.match(r"linear [\d.]+ ms; softmax", second)
    assert "linear is the cheapest of " in said
    assert re.search(r"performer +falls short", said)
    assert "3 seeds" not in said.splitlines()[0]


def test_a_score_whose_interval_holds_the_goal_is_open_and_seeds_would_settle_it(store, exits):
    said = exits(0, ask(store, "task=recall", "score=97"))
    assert re.search(r"linear +not settled: a wide interval", said)
    assert re.search(r"attnbench sweep 'attention=\[nala\]' .*'seed=\[3", said)


def test_rows_that_the_rounds_cannot_tell_apart_are_one_set(tmp_path, exits):
    alike = block_records(("nala", "nala_cosine", "softmax"), seq_len=4096, num_rounds=8)
    together = [changed(record, rounds_key="0" * 16) for record in alike]
    said = exits(0, ask(kept(tmp_path, together)))
    assert "nala_cosine and nala are tied as the cheapest of 3 timed rows" in said
    assert "of one process a length" in said
    assert re.search(r"'attention=\[nala,nala_cosine\]'.* measure.num_processes=6", said)


def told(store, capsys, *words):
    """The answer to a question, without line breaks."""
    assert ask(store, *words) == 0
    return " ".join(capsys.readouterr().out.split())


def kept(folder, records):
    """A store of these records."""
    stored(folder, *records, name="made-up")
    return folder


def test_rows_of_other_rounds_are_not_tied_but_not_compared(tmp_path, capsys):
    alike = block_records(("nala", "nala_cosine", "softmax"), seq_len=4096, num_rounds=8)
    several = {"processes": tuple(range(8))}  # rows of other rounds are tied with fewer
    apart = [changed(record, rounds_key=f"{i}" * 16, **several) for i, record in enumerate(alike)]
    said = told(kept(tmp_path, apart), capsys)
    assert "nala_cosine is the cheapest of 3 timed rows" in said
    assert "Not timed here in the same rounds, so not compared: nala." in said


def timed_row(entry, seconds, reference_s, key):
    """An answer that was timed beside a reference."""
    drift = [1 + i / 1000 for i in range(10)]
    times = [[each * factor for factor in drift] for each in (seconds, reference_s)]
    timed = speed(*times, reference_key=key, processes=tuple(range(10)))
    record = ok_record(kernel_cell(entry, seq_len=64), timed)
    return Candidate(entry=entry, mechanism=entry, cost=cost_at({64: record}, 64))


def test_rows_of_two_rounds_are_compared_by_speed_up_over_one_reference():
    nala = timed_row("nala", 0.01, 0.1, "a" * 16)  # ten times as fast as a reference
    for key, verdict in (("a" * 16, DEARER), ("b" * 16, NOT_COMPARED)):
        found = told_apart([nala, timed_row("linear", 0.011, 0.02, key)])
        assert found == {"nala": TIED, "linear": verdict}


def test_the_score_of_a_variant_has_no_cost_of_its_namesake(tmp_path, capsys):
    usual = {k: v for k, v in (settings_of("performer") or {}).items() if k != "mechanism"}

    def of(records, **settings):
        own = usual | settings
        return [replace(r, cell=replace(r.cell, hyperparameters=own)) for r in records]

    def trained(rate):
        for record in of(task_records(("performer",)), num_features=16):
            work = record.cell.task
            settings = work.settings | {"learning_rate": rate}
            work = replace(work, settings=settings, shared_rate=0.01)
            done = changed(record, validation=(0.9 - abs(rate - 0.01),), validation_steps=(600,))
            yield replace(done, cell=replace(record.cell, workload=work))

    timed = of(block_records(("performer",), seq_len=4096))
    at_rates = [record for rate in (0.005, 0.01, 0.02) for record in trained(rate)]
    store = kept(tmp_path, [*timed, *at_rates])
    said = told(store, capsys, "task=recall", "score=50")
    assert re.search(r"performer num_features=16 \S.* searched", said)
    assert "not compared: performer num_features=16" in said


def test_a_score_with_a_unit_is_asked_for_in_its_unit(tmp_path, capsys):
    runs = (r for rows in (("linear",), ("nala",)) for r in task_records(rows))
    bits = [2.0, 2.01, 2.02, 3.0, 3.01, 3.02]
    records = [
        changed(record, accuracy=score, unit="bits per byte", chance=4.4)
        for record, score in zip(runs, bits, strict=True)
    ]
    records += block_records(("linear", "nala", "softmax"), seq_len=4096)
    said = told(kept(tmp_path, records), capsys, "task=recall", "score=2.5")
    assert "linear is the cheapest of 1 timed row proven to reach 2.5 bits per byte on re" in said
    assert re.search(r"nala falls short", said)


def test_a_span_is_asked_for_in_the_unit_of_its_rungs(tmp_path, capsys):
    above, below = 3 * [(1, 1, 1, 1)], 3 * [(1, 1, 0.7, 0.2)]
    records = [*ladder("linear", *above), *ladder("nala", *below)]
    records += block_records(("linear", "nala", "softmax"), seq_len=4096)
    store = kept(tmp_path, records)
    said = told(store, capsys, "task=recall", "holds=8")
    assert "linear is the cheapest of 1 timed row proven to reach a span of 8 pairs" in said
    assert "over 16" in said and re.search(r"nala falls short", said)
    for words, why in (
        ("holds=32", "holds=32 is outside of what was tested: more than 2 and fewer than 16 pairs"),
        ("score=90", "score=90 is a percentage, and recall is scored by its span"),
    ):
        assert ask(store, "task=recall", words) == 2
        assert why in " ".join(capsys.readouterr().err.split())


def test_a_span_without_a_task_is_that_of_recall_in_the_direction_of_the_call(exits):
    said = exits(0, main(["seq_len=4096", "mode=decode", "holds=32"]))
    assert "proven to reach a span of 32 pairs on recall_span_causal" in " ".join(said.split())


def test_seeds_that_would_settle_it_are_all_named(tmp_path, capsys):
    scores = zip(task_records(("nala",)), (0.95, 0.96, 0.97), strict=True)
    records = [changed(record, accuracy=score) for record, score in scores]
    records += [*task_records(("softmax",)), *block_records(("nala", "softmax"), seq_len=4096)]
    said = told(kept(tmp_path, records), capsys, "task=recall", "score=95.8")
    found = re.search(r"'seed=\[([\d, ]+)\]'", said)
    seeds = [int(seed) for seed in found[1].replace(" ", "").split(",")]
    assert len(seeds) > 100 and seeds == [*range(3, 3 + len(seeds))]


def test_between_lengths_a_fit_has_an_interval_that_holds_the_true_time():
    records = {n: block_records(("linear",), seq_len=n)[0] for n in (256, 1024, 4096)}
    seconds, (low, high) = seconds_at(records, 2048) or (0.0, (0.0, 0.0))
    assert low < seconds < high
    assert seconds_at(records, 8192) is None
    assert seconds_at({256: records[256]}, 256) is None
    for num_rounds in (5, 6):  # five have no interval
        few = {n: block_records(("linear",), seq_len=n, num_rounds=num_rounds)[0] for n in records}
        assert (seconds_at(few, 2048) is None) == (num_rounds == 5)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("score=95",), "score=95 is a score on no task. Name one, e.g. task=recall_causal."),
        (("seq_len=65536",), "seq_len=65536 is outside of what was measured: 256 to 4,096 tokens"),
        (("seq_len=65536",), "attnbench sweep 'attention=[linear,nala,nala_cosine,softmax]'"),
        (
            ("mode=decode",),
            "No causal call with mode=decode, dtype=float32",
        ),
        (("task=digits",), "No score on task=digits is stored. Known: recall."),
        (("task=[recall,digits]",), "task names 2 tasks; one is asked about."),
        (("causal=false", "mode=decode"), "causal=false beside mode=decode, in which a token sees"),
        (("mode=forwards",), "Did you mean forward"),
        (("task=recall", "score=101"), "score=101 is more than 100. On task=recall a score is the"),
    ],
)
def test_a_wrong_question_is_a_sentence_and_exit_code_2(store, capsys, words, message):
    assert ask(store, *words) == 2
    said = capsys.readouterr()
    assert message in said.err and "Traceback" not in said.err and len(said.err) < 3000


def test_a_fresh_clone_answers_the_question_of_the_help(exits, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    said = exits(0, main(["seq_len=4096", "task=recall_causal", "score=95", "page=choosing.md"]))
    assert "reach 95 % on recall_causal" in said and "; scored at 64 tokens." in said
    assert "Scores: recall_causal with seq_len 64, num_layers 2," in said
    page = Path("choosing.md").read_text()
    assert "    attnbench advise seq_len=4096 'task=[recall_causal]' score=95" in page


def test_settings_of_a_task_that_were_typed_choose_its_scores(exits):
    words = ("task=word_problem", "score=99")
    said = exits(0, main([*words, "task.word_problem.group=A5"]))
    assert "Scores: word_problem with group A5" in said
    said = exits(2, main([*words, "task.word_problem.group=S99"]))
    assert "with group=S99 is stored. Known: A5, S3, S5, Z2, Z60." in said


def test_a_fresh_clone_knows_what_a_token_costs_on_a_long_context(exits, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for batch_size, *lengths in ((1, 2048), (8, 1024, 16384)):
        said = exits(0, main(["mode=decode", f"batch_size={batch_size}", f"seq_len={lengths}"]))
        assert all(f"decode, {length:,} tokens" in said for length in lengths)
        assert said.count("fulfil the needs.") == len(lengths)
        assert re.search(r"gla [\d.]+ ms.* a token, flat from 1,024 to 16,384 tokens", said)


def test_a_score_in_a_unit_has_its_digits_and_is_better_than_guessing(
    capsys, exits, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    assert main(["seq_len=1024", "task=bytes", "score=95"]) == 2
    told = r"score=95 is worse than guessing, 4\.4\d bits per byte\. On task=bytes less is better\."
    assert re.search(told, capsys.readouterr().err)
    said = exits(0, main(["seq_len=1024", "task=bytes", "score=2.6"]))
    assert re.search(r" 2\.\d{3} \(2\.\d{3} to 2\.\d{3}\)", said)
