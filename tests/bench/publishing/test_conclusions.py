import re
from dataclasses import replace

import pytest

from bench.publishing.conclusions import headline, sentences, task_headline
from bench.publishing.leaderboard import build_leaderboard
from tests import records as made

ENTRIES = ("softmax", "linear", "nala", "none")


def said(records):
    board = build_leaderboard(records, ("none", "uniform"))
    return sentences(board)


def sharing(records, key):
    """The records as of one block, compared with the softmax among them."""
    softmax = next(r.cell.key for r in records if r.cell.entry == "softmax")
    return [made.changed(r, rounds_key=key, reference_key=softmax) for r in records]


def sweep(*entries, lengths=(256, 1024, 4096), **shape):
    return [
        record
        for n in lengths
        for record in sharing(made.block_records(entries, seq_len=n, **shape), f"r{n}{shape}")
    ]


def test_rows_that_cannot_be_told_apart_share_the_first_place():
    records = sweep("softmax", "nala", "nala_cosine", lengths=(4096,))
    twin = next(r for r in records if r.cell.entry == "nala")
    records = [r for r in records if r.cell.entry != "nala_cosine"]
    records.append(replace(twin, cell=made.kernel_cell("nala_cosine", seq_len=4096)))
    (sentence,) = said(records)
    assert "nala and nala_cosine are fastest, up to 5.65x softmax; they cannot be told" in sentence


def test_a_recurrent_row_is_of_this_implementation_and_what_is_faster_is_named():
    records = sweep("softmax", "linear", "nala", lengths=(4096,))
    softmax, linear, nala = records
    gla, twin = (
        replace(record, cell=made.kernel_cell(name, seq_len=4096))
        for record, name in ((nala, "gla"), (linear, "gla_ort"))
    )
    (alone,) = said([softmax, gla])
    assert alone.endswith("; gla in this implementation.")
    (both,) = said([softmax, gla, twin])
    assert re.search(r"; gla in this implementation, faster here as gla_ort \(\S+x gla\)\.$", both)


def headlines(records):
    board = build_leaderboard(records, ("none", "uniform"))
    timed = [headline(ranking, board) for ranking in board.rankings]
    return [*timed, *(task_headline(task) for task in board.tasks)]


def in_six_processes(records):
    return [made.changed(r, processes=tuple(i % 6 for i in r.result.rounds)) for r in records]


def test_a_headline_says_who_is_fastest_and_from_which_length_on():
    *_, longest = headlines(sweep(*ENTRIES))
    assert re.fullmatch(
        r"Bidirectional, one process: linear is fastest at 4,096 tokens, \d+(\.\d+)? times as fast "
        r"as softmax, and ahead (at every measured length|from \d+ tokens on)\.",
        longest,
    )
    records = sweep("softmax", "softmax_explicit", lengths=(64,), causal=True)
    (short,) = headlines(in_six_processes(records))
    assert short == "Causal: softmax is fastest at 64 tokens; softmax_explicit is second."


def test_a_sentence_says_the_direction_and_that_all_was_timed_in_one_process():
    records = sweep(*ENTRIES) + sweep(*ENTRIES, causal=True)
    records += sweep(*ENTRIES, mode="forward_backward")
    first, second, third = said(records)
    assert first.startswith(
        "At 4,096 tokens on this CPU, bidirectional, float32, forward, in one process: linear is"
    )
    assert second.startswith("causal, float32, forward, in one process: linear is"), "its twin"
    assert third.startswith("bidirectional, float32, forward + backward, in one process: linear")
    assert "process" not in "".join(said(in_six_processes(records)))
    mixed = [*in_six_processes(records[:9]), *records[9:]]  # of three lengths with four rows each
    assert "forward, in 1 or 6 processes: " in said(mixed)[0]


@pytest.mark.parametrize(("length", "first"), [(4096, "linear"), (64, "softmax")])
def test_nobody_is_second_where_the_next_rows_cannot_be_told_apart(length, first):
    records = sweep("softmax", "nala", "linear", lengths=(length,))
    twin = next(r for r in records if r.cell.entry == "nala")
    for name in ("nala_cosine", "flatten"):
        records.append(replace(twin, cell=made.kernel_cell(name, seq_len=length)))
    if first == "softmax":  # places 2 to 4 without linear
        records = [r for r in records if r.cell.entry != "linear"]
    (sentence,) = said(records)
    (short,) = headlines(records)
    assert f"{first} is fastest" in sentence and f"{first} is fastest" in short
    assert "second" not in sentence + short and "nala" not in sentence + short


def scored(entry, accuracies, **changes):
    records = made.task_records([entry], seeds=range(len(accuracies)))
    return [
        made.changed(record, accuracy=accuracy, **changes)
        for record, accuracy in zip(records, accuracies, strict=True)
    ]


def test_a_task_names_no_second_where_the_next_rows_cannot_be_told_apart():
    records = scored("softmax", [0.99, 0.98, 0.99]) + scored("nala", [0.7, 0.71, 0.7])
    records += scored("linear", [0.71, 0.7, 0.7])
    (sentence,) = said(records)
    assert sentence.endswith("softmax is best (98.7 %).")
    assert headlines(records) == ["softmax is best on recall with 98.7 %."]
