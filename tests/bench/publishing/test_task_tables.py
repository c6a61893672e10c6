"""Tables of tasks: the mean and each seed, what is not ranked and why, and what guessing gives."""

from dataclasses import replace

from bench.core.record import Status
from bench.publishing.leaderboard import build_leaderboard
from bench.publishing.task_tables import task_sections
from tests import records as made


def board(records):
    return build_leaderboard(records, ("uniform", "none"))


def row_of(records, entry):
    """A row by its titles."""
    (section,) = task_sections(board(records))
    table, *_ = section.tables
    at = table.header.index("entry")
    (found,) = [row for row in table.texts() if row[at].partition(" (")[0] == entry]
    return dict(zip(table.header, found, strict=True))


def trained(entry, accuracies, **changes):
    """One seed for each accuracy."""
    made_up = made.task_records([entry], seeds=range(len(accuracies)))
    return [
        made.changed(record, accuracy=accuracy, **changes)
        for record, accuracy in zip(made_up, accuracies, strict=True)
    ]


def test_seeds_make_a_mean_an_interval_and_a_place_and_each_of_them_is_shown():
    records = [
        *trained("softmax", [0.99, 0.98, 1.0]),
        *trained("nala", [0.97, 0.99, 0.96]),
        *trained("linear", [0.5, 0.51, 0.52]),
        *trained("none", [0.03, 0.03, 0.03]),
    ]
    softmax = row_of(records, "softmax")
    assert softmax["accuracy (%)"] == "99.0 [96.2, 100.0]"
    assert softmax["each seed"] == "98.0 99.0 100.0"
    ranks = [row_of(records, entry)["rank"] for entry in ("softmax", "nala", "linear", "none")]
    assert ranks == ["1-2", "1-2", "3", "control"]
    fewer = [*records, *trained("gla", [0.9])]
    assert [row_of(fewer, entry)["seeds"] for entry in ("gla", "nala")] == ["1 of 3", "3"]
    (section,) = task_sections(board(records))
    assert any("95 % interval of a typical seed" in note for note in section.notes)


def test_the_only_row_that_has_settled_is_ahead_of_nobody():
    records = trained("softmax", [0.9, 0.9], ended="plateau")
    records += trained("nala", [0.99, 0.99], ended="maximum")
    assert row_of(records, "softmax")["rank"] == ""


def test_steps_to_90_are_a_median_that_says_how_many_seeds_got_there():
    records = [
        *trained("softmax", [0.99, 0.99], steps_to_90=120),
        *trained("nala", [0.99], steps_to_90=200),
        *trained("linear", [0.4, 0.4]),
    ]
    records += [made.failed_record(made.task_cell("nala", seed=1), Status.DIVERGED, "nan")]
    assert row_of(records, "softmax")["steps to 90 %"] == "120"
    assert row_of(records, "linear")["steps to 90 %"] == ""
    partly = [*trained("nala", [0.99], steps_to_90=200), *trained("nala", [0.0, 0.3])[1:]]
    assert row_of(partly, "nala")["steps to 90 %"] == "200 (1 of 2)"
    sparse = [
        *trained("nala", [0.9], kept_share=0.2),
        *trained("nala", [0.9] * 2, kept_share=0.4)[1:],
    ]
    assert row_of(sparse, "nala")["pairs kept (%)"] == "30.0"


def lengthened(entry, *longer):
    """Trained at 64 tokens, a seed for each pair of scores at 128 and at 256."""
    records = []
    for record, (at_128, at_256) in zip(trained(entry, [1.0] * len(longer)), longer, strict=True):
        work = replace(record.cell.task, settings=record.cell.task.settings | {"seq_len": 64})
        record = replace(record, cell=replace(record.cell, workload=work))
        records.append(made.changed(record, longer={"128": at_128, "256": at_256}))
    return records


def test_longer_tests_have_intervals_and_order_the_rows_by_the_length_solved():
    records = lengthened("nala", (0.95, 0.5), (0.93, 0.6), (0.94, 0.4))
    records += lengthened("softmax", (1.0, 0.99), (1.0, 0.98), (1.0, 0.97))
    assert row_of(records, "nala")["at 256 tokens"] == "50.0 [22.7, 77.3]"
    assert row_of(records, "nala")["solved to"] == "128 tokens"
    (section,) = task_sections(board(records))
    at = section.tables[0].header.index("solved to")
    assert [row[at] for row in section.tables[0].texts()] == ["256 tokens", "128 tokens"]
    assert not any("no row's mean" in note for note in section.notes)


def test_each_setting_of_one_task_has_its_own_column_of_the_length_solved():
    far = lengthened("softmax", (0.99, 0.98), (0.99, 0.97)) + lengthened("nala", (1.0, 0.2))
    near = []
    for record in lengthened("softmax", (0.3, 0.2), (0.2, 0.1)):
        work = record.cell.task
        work = replace(work, settings=work.settings | {"num_pairs": 16})
        near.append(replace(record, cell=replace(record.cell, workload=work)))
    *_, section = task_sections(board(far + near))
    table = section.tables[1]
    assert table.title == "solved to"
    assert set(table.header[1:]) == {"recall", "recall num_pairs=16"}
    found = {row[0]: dict(zip(table.header[1:], row[1:], strict=True)) for row in table.texts()}
    assert found == {
        "softmax": {"recall": "256 tokens", "recall num_pairs=16": "64 tokens"},
        "nala": {"recall": "128 tokens", "recall num_pairs=16": ""},
    }
