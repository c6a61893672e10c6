import numpy as np

from bench.core.answers import mcnemar
from bench.publishing.page.answers import NUM_SHOWN, answered
from bench.publishing.page.rows import page_rows
from tests import records as made
from tests.bench.publishing.page.made_pages import (
    METRICS,
    board,
    solved,
    with_examples,
)

ENTRIES = ("softmax", "linear", "nala")
SEEDS = (0, 1, 2)


def drawn(seed, num=400):
    return np.random.default_rng(seed).random(num) < 0.8


def records(num=400):
    plain = made.task_records(ENTRIES, seeds=SEEDS)
    return [solved(record, drawn(seed, num)) for seed, record in enumerate(plain)]


def found(given, out):
    rows = page_rows(board(given), METRICS)
    return rows, answered(rows, out)


def names(rows):
    return [own[0].cell.entry if own else "" for own in rows.records]


def test_pairs_have_mcnemars_numbers_over_all_answers(tmp_path):
    rows, said = found(records(), tmp_path)
    [group] = said["groups"].values()
    of_row = {row: drawn(3 * ENTRIES.index(names(rows)[row])) for row in group["rows"]}
    a, b, c = group["rows"]
    expected = [mcnemar(of_row[i], of_row[j]) for i, j in ((a, b), (a, c), (b, c))]
    assert group["pairs"] == [[t.only_first, t.only_second, f"{t.p_value:.2g}"] for t in expected]
    words = said["words"].format(
        only_first=expected[0].only_first,
        only_second=expected[0].only_second,
        p_value=expected[0].p_words,
    )
    assert words == str(expected[0]) and words.startswith("these two trained models: ")


def test_models_of_other_test_sets_seeds_or_numbers_of_answers_are_not_compared(tmp_path):
    given = records()
    for change in ({"test_set": "f" * 16}, {"test_set": ""}, {"answers": ""}, None):
        other = [
            r
            if r.cell.entry != "nala"
            else made.changed(r, **change)
            if change is not None
            else solved(r, drawn(1, 392))
            for r in given
        ]
        rows, said = found(other, tmp_path)
        [group] = said["groups"].values()
        assert sorted(names(rows)[row] for row in group["rows"]) == ["linear", "softmax"]
    apart = [r for r in given if (r.cell.entry == "nala") == (r.cell.task.seed == 2)]
    rows, said = found(apart, tmp_path)
    [group] = said["groups"].values()
    assert sorted(names(rows)[row] for row in group["rows"]) == ["linear", "softmax"]
    alone = [r for r in given if r.cell.entry == "nala"]
    assert found(alone, tmp_path)[1]["groups"] == {}


def test_the_seed_is_the_least_that_most_rows_have(tmp_path):
    given = [r for r in records() if r.cell.task.seed or r.cell.entry != "nala"]
    [group] = found(given, tmp_path)[1]["groups"].values()
    assert group["seed"] == 1 and len(group["rows"]) == 3


def test_a_damaged_file_of_examples_counts_as_none(tmp_path):
    with_examples(tmp_path, targets=["<b>", 3])
    said = found(records(), tmp_path)[1]
    [group] = said["groups"].values()
    assert said["examples"] == {} and group["asked"] == [4] * NUM_SHOWN
