"""Which of a search's runs a table shows."""

from dataclasses import replace

from bench.core.record import Status
from bench.publishing.accuracy import accuracy_page
from bench.publishing.document import markdown
from bench.publishing.searched import at_best_rate
from tests import records as made


def run(entry, rate, validation, seed=0, **changes):
    (record,) = made.task_records([entry], seeds=[seed])
    settings = {"num_steps": 600, "learning_rate": rate}
    record = made.with_work(record, settings=settings, shared_rate=0.006)
    values = {"validation": (validation,), "validation_steps": (600,)} | changes
    return made.changed(record, **values)


def test_a_row_is_shown_at_the_rate_with_the_best_validation_score_and_not_the_best_test_score():
    records = [
        run("nala", 0.001, 0.5, accuracy=0.99),
        run("nala", 0.003, 0.9, accuracy=0.6),
        run("nala", 0.01, 0.6, accuracy=0.7),
        run("nala", 0.003, 0.1, seed=1),
    ]
    shown = at_best_rate(records)
    assert {r.cell.task.settings["learning_rate"] for r in shown} == {0.003}
    assert {r.cell.task.seed for r in shown} == {0, 1}
    assert all(r.cell.task.shared_rate == 0.006 and not r.cell.task.is_at_edge for r in shown)
    fell = made.changed(records[0], validation=(0.99, 0.2), validation_steps=(300, 600))
    (shown,) = at_best_rate([fell, *records[1:3]])
    assert shown.cell.task.settings["learning_rate"] == 0.003, "the last score counts, not the best"


def test_a_seed_that_was_trained_at_the_best_rate_by_hand_is_in_the_same_table():
    records = [run("nala", rate, score) for rate, score in ((0.001, 0.5), (0.003, 0.9), (0.01, 0))]
    by_hand = run("nala", 0.003, 0.8, seed=1)
    shown = at_best_rate([*records, made.with_work(by_hand, shared_rate=None)])
    assert [r.cell.task.seed for r in shown] == [0, 1]
    assert shown[0].cell.task.shared_settings == shown[1].cell.task.shared_settings


def test_the_seed_with_the_most_rates_chooses_and_of_several_the_lowest():
    by_hand = [run("nala", 0.001, 0.9)]  # seed 0 knows of no other rate
    search = [run("nala", rate, score, seed=1) for rate, score in ((0.001, 0.2), (0.003, 0.8))]
    again = [run("nala", rate, score, seed=2) for rate, score in ((0.001, 0.8), (0.003, 0.2))]
    known = [run("nala", 0.003, 0.7, seed=3)]
    shown = at_best_rate([*by_hand, *again, *search, *known])
    assert {r.cell.task.settings["learning_rate"] for r in shown} == {0.003}


def test_a_seed_with_which_every_run_was_stuck_does_not_choose():
    at = {"plateaus": {"one of the shown values": 0.25}}
    stuck = [run("nala", rate, score, **at) for rate, score in ((0.001, 0.26), (0.003, 0.25))]
    found = [run("nala", rate, score, 1, **at) for rate, score in ((0.001, 0.25), (0.003, 0.9))]
    shown = at_best_rate([*stuck, *found])
    assert {r.cell.task.settings["learning_rate"] for r in shown} == {0.003}


def test_a_row_whose_search_ended_without_a_score_is_left_out_but_for_what_went_wrong():
    unseen = {"validation": (), "validation_steps": ()}
    failed = [made.changed(run("nala", rate, 0.5), **unseen) for rate in (0.001, 0.003)]
    assert at_best_rate([*failed, run("gla", 0.003, 0.5)]) == [run("gla", 0.003, 0.5)]
    crashed = [made.failed_record(run.cell, Status.CRASHED, "It died.") for run in failed]
    (shown,) = at_best_rate([*crashed, run("nala", 0.01, 0.5)])
    assert shown.status is Status.OK
    assert at_best_rate(crashed) == crashed
    assert markdown(accuracy_page(crashed, "COMMAND")).count("It died.") == 2


def test_a_best_rate_at_the_edge_of_the_search_is_said_to_be_there():
    records = [
        run("nala", rate, score) for rate, score in ((0.001, 0.9), (0.003, 0.5), (0.01, 0.1))
    ]
    (shown,) = at_best_rate(records)
    assert shown.cell.task.is_at_edge and shown.cell.task.settings["learning_rate"] == 0.001


def test_other_rows_and_other_numbers_of_steps_have_choices_of_their_own():
    longer = []
    for record in (run("nala", 0.001, 0.9), run("nala", 0.003, 0.95), run("nala", 0.01, 0.2)):
        settings = record.cell.task.settings | {"num_steps": 1200}
        longer.append(made.with_work(record, settings=settings))
    short = [run("nala", 0.001, 0.2), run("nala", 0.003, 0.3), run("nala", 0.01, 0.9)]
    short += [run("nala", 0.03, 0.1)]
    shown = at_best_rate([*short, *longer])
    chosen = {
        w.settings["num_steps"]: w.settings["learning_rate"] for r in shown if (w := r.cell.task)
    }
    assert chosen == {600: 0.01, 1200: 0.003}


def test_variants_of_an_entry_and_dtypes_have_choices_of_their_own():
    few = [run("performer", 0.003, 0.9), run("performer", 0.01, 0.5)]
    many = [run("performer", 0.003, 0.5), run("performer", 0.01, 0.9)]
    for changes, other in (
        ({"hyperparameters": {"num_features": 16}}, {}),
        ({"num_threads": 2}, {}),
        ({}, {"dtype": "bfloat16"}),
    ):
        changed = [
            replace(r, cell=replace(r.cell, **changes, workload=replace(r.cell.task, **other)))
            for r in many
        ]
        shown = at_best_rate([*few, *changed])
        assert [r.cell.task.settings["learning_rate"] for r in shown] == [0.003, 0.01]
        assert [r.cell.key == changed[1].cell.key for r in shown] == [False, True]


def test_a_rate_with_fewer_seeds_than_another_is_not_chosen():
    records = [run("nala", rate, score) for rate, score in ((0.001, 0.5), (0.003, 0.9))]
    records += [run("nala", 0.01, 0.6), run("nala", 0.006, 0.95)]
    records += [run("nala", 0.003, 0.4, seed=seed) for seed in (1, 2)]
    shown = at_best_rate(records)
    assert [r.cell.task.settings["learning_rate"] for r in shown] == [0.003] * 3
    assert not any(r.cell.task.is_at_edge for r in shown)


def test_rows_with_one_rate_and_controls_are_left_as_they_are():
    records = [run("nala", 0.003, 0.9, seed=seed) for seed in (0, 1)]
    assert at_best_rate(records) == records
    two = [run("none", rate, 0.03) for rate in (0.003, 0.01)]
    assert at_best_rate(two) == two
