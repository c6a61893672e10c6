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


def test_tasks_on_which_no_row_may_be_ranked_have_no_table_of_means():
    tasks = ("recall", "digits")
    unsettled = [
        made.changed(record, ended="maximum")
        for task in tasks
        for record in made.task_records(["linear"], task=task)
    ]
    settled = [r for task in tasks for r in made.task_records(["linear"], task=task)]
    assert [s.title.partition(" · ")[0] for s in task_sections(board(unsettled))] == [
        "digits",
        "recall",
    ]
    assert task_sections(board(settled))[-1].title.startswith("Over 2 tasks")


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


def test_only_a_ranked_row_that_still_improves_is_not_said_to_be_unranked_for_it():
    rising = trained(
        "none", [0.03, 0.03], ended="maximum", validation=(0.5,), validation_steps=(9,)
    )
    ranked = [replace(r, cell=_tuned(r.cell)) for r in [*trained("nala", [0.5, 0.5]), *rising]]
    slow = [replace(r, cell=_tuned(r.cell)) for r in trained("gla", [0.9, 0.9], ended="maximum")]
    for records, words in ((ranked, "Not settled, so"), ([*ranked, *slow], "Not settled:")):
        board = build_leaderboard(records, ("none",), within_budget=True)
        (section,) = task_sections(board)
        assert any(note.startswith(words) for note in section.notes)


def _tuned(cell):
    return replace(cell, workload=replace(cell.task, shared_rate=0.003))


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


def test_bits_at_longer_lengths_are_no_shares_and_solve_nothing():
    records = [
        made.changed(r, unit="bits per byte")
        for r in lengthened("nala", (1.5, 2.5), (1.6, 2.6), (1.55, 2.55))
    ]
    row = row_of(records, "nala")
    assert row["at 256 tokens"] == "2.55 [2.41, 2.69]" and "solved to" not in row
    (section,) = task_sections(board(records))
    assert not any("90%" in note for note in section.notes)


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


def test_a_task_that_no_row_solves_at_any_length_is_not_settled():
    records = [made.changed(r, accuracy=0.3) for r in lengthened("nala", (0.2, 0.2), (0.2, 0.2))]
    (section,) = task_sections(board(records))
    assert any("no row's mean reaches 90% at any length" in note for note in section.notes)
    controls = lengthened("none", (0.99, 0.99), (0.99, 0.99))
    (section,) = task_sections(board([*records, *controls]))
    assert any("no row's mean reaches 90%" in note for note in section.notes)
    assert not any("; nala does" in note for note in section.notes)
    one = [
        made.changed(record, accuracy=score)
        for record, score in zip(records, (0.95, 0.3), strict=True)
    ]
    (section,) = task_sections(board(one))
    assert any("; nala does with 1 of 2 seeds." in note for note in section.notes)


def test_a_length_at_which_a_seed_broke_down_says_so_and_is_not_solved():
    records = lengthened("nala", (0.95, 0.95), (0.95, 0.95))
    records[1] = made.changed(records[1], longer={"256": 0.95})
    row = row_of(records, "nala")
    assert row["at 128 tokens"] == "95.0 (1 of 2 seeds)" and "seed" not in row["at 256 tokens"]
    assert row["solved to"] == "64 tokens"
    assert row_of(lengthened("nala", (0.9, 0.89)), "nala")["solved to"] == "128 tokens"
    (section,) = task_sections(board(records))
    assert any("does not count as solved" in note for note in section.notes)


def test_a_table_of_equal_cost_names_the_size_that_was_set_and_how_near_it_came():
    def matched(entry, match, **changes):
        (record,) = trained(entry, [0.9], **changes)
        sizes = {"match": match, "num_layers": 2, "embed_dim": 64, "num_heads": 4}
        work = replace(record.cell.task, settings=sizes)
        return replace(record, cell=replace(record.cell, workload=work))

    flops = [
        matched("nala", "flops", matched="MLP of 128", flops=9_500_000, state_bytes=8704),
        matched("flatten", "flops", matched="MLP of 134", flops=9_510_000),
        matched("linear", "flops", matched="MLP of 99", flops=9_700_000),
        matched("none", "flops", flops=9_500_000),
    ]
    assert row_of(flops, "linear")["size set"] == "MLP of 99"
    assert row_of(flops, "linear")["FLOPs of an example"] == "9.70 MFLOP (+2.1%)"
    assert row_of(flops, "flatten")["FLOPs of an example"] == "9.51 MFLOP"
    assert row_of(flops, "nala")["state"] == "8,704 bytes"
    assert row_of(flops, "none")["size set"] == ""
    two = [matched("nala", "flops", flops=200), matched("linear", "flops", flops=100)]
    costs = [row_of(two, entry)["FLOPs of an example"] for entry in ("nala", "linear")]
    assert costs == ["200 FLOP (+100.0%)", "100 FLOP"], "of equally frequent costs the least"

    state = [matched("linear", "state", matched="embed_dim 60", flops=1, state_bytes=7680)]
    assert row_of(state, "linear")["state"] == "7,680 bytes (-6.2%)"  # 8,192 is asked for
    assert "FLOPs of an example" not in row_of(state, "linear")
    assert "size set" not in row_of(trained("nala", [0.9]), "nala")
