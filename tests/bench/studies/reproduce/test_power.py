from dataclasses import replace

import pytest

from bench.core.cli.errors import ConfigError
from bench.core.record import Quality
from bench.studies.reproduce.command import main
from bench.studies.reproduce.power import Question, answer, pilot_of, read_question
from tests.bench.studies.reproduce.given import RUNS
from tests.bench.studies.reproduce.given import record as given_record
from tests.records import changed

QUESTION = Question(first="nala", second="flatten", difference=0.5, task="recall")


def record(entry, accuracy, seed, started_at="1", **settings):
    found = given_record(RUNS[0], accuracy, seed, **settings)
    work = replace(found.cell.task, label="recall")
    assert isinstance(found.result, Quality)
    return replace(
        found,
        cell=replace(found.cell, entry=entry, mechanism=entry, hyperparameters={}, workload=work),
        result=replace(found.result, train_s=20.0 if entry == "nala" else 40.0),
        started_at=started_at,
    )


def pairs(num_seeds, more=0.01, **settings):
    found = []
    for seed in range(num_seeds):
        found.append(record("nala", 0.5 + more * seed, seed, **settings))
        found.append(record("flatten", 0.5, seed, **settings))
    return found


def test_the_spread_is_that_of_differences_seed_by_seed():
    pilot = pilot_of(QUESTION, pairs(3))
    first, second, third = answer(QUESTION, pilot)
    assert first == (
        "nala less flatten on recall: +1.00 points over 3 stored seeds, "
        "spread 1.00 from seed to seed"
    )
    assert second.startswith("to tell 0.5 points from 0 with 80 % power takes, of both entries, ")
    assert "about 34 seeds (" in second
    assert (
        third.startswith("0.57 core-hours (0.18 to 21), ")
        and "at 60 core-seconds a seed of both" in third
    )


def test_seeds_and_settings_must_be_those_of_both():
    assert pilot_of(QUESTION, pairs(2)) == []
    apart = [r for r in pairs(3) if r.cell.entry == "nala"]
    apart += [r for r in pairs(3, batch_size=7) if r.cell.entry == "flatten"]
    assert pilot_of(QUESTION, apart) == []
    versions = [replace(r, training_version=1 + (r.cell.entry == "nala")) for r in pairs(3)]
    assert pilot_of(QUESTION, versions) == []
    own_rate = [r for r in pairs(3) if r.cell.entry == "nala"]
    own_rate += [r for r in pairs(3, learning_rate=0.5) if r.cell.entry == "flatten"]
    assert len(pilot_of(QUESTION, own_rate)) == 3


def test_the_newest_records_count():
    new = [replace(r, started_at="2") for r in pairs(3, more=0.02)]
    for records in ([*pairs(3), *new], [*new, *pairs(3)]):
        assert (
            "+2.00 points over 3 stored seeds, spread 2.00"
            in answer(QUESTION, pilot_of(QUESTION, records))[0]
        )


def test_runs_of_one_entry_are_at_its_best_rate_and_of_one_set_of_hyperparameters():
    found = [r for r in pairs(3) if r.cell.entry == "flatten"]
    for rate, score in ((0.1, 0.9), (0.5, 0.2)):  # the worse one is the newer one
        runs = [record("nala", score, seed, str(rate), learning_rate=rate) for seed in range(3)]
        found += [changed(r, validation=(score,), validation_steps=(1,)) for r in runs]
    assert [one.cell.task.settings["learning_rate"] for one, _ in pilot_of(QUESTION, found)] == [
        0.1
    ] * 3
    mixed = pairs(3)
    last = replace(mixed[4], cell=replace(mixed[4].cell, hyperparameters={"lam": 9.0}))
    assert pilot_of(QUESTION, [*mixed[:4], mixed[5]]) == []
    assert pilot_of(QUESTION, [*mixed[:4], mixed[5], last]) == []


def test_a_question_is_read():
    assert read_question("nala > flatten by 0.5 on recall", ()) == QUESTION
    assert read_question("own > flatten by 2 on recall", [record("own", 0.5, 0)]).first == "own"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("nala > flaten by 0.5 on recall", "no entry flaten. Did you mean flatten"),
        ("nala > flatten by 0.5 on recal", "no task recal. Did you mean recall"),
        ("nala beats flatten", "of the form 'FIRST > SECOND by POINTS on TASK'"),
        ("nala > nala by 0.5 on recall", "asks for no difference"),
        ("nala > flatten by 0 on recall", "asks for no difference"),
    ],
)
def test_what_cannot_be_read_names_the_nearest(words, message):
    with pytest.raises(ConfigError, match=message):
        read_question(words, ())


def test_the_command_answers_or_names_a_sweep(tmp_path, exits):
    stores = [f"keep={tmp_path / 'keep'}", f"out={tmp_path / 'out'}"]
    said = exits(2, main([*stores, 'power="nala > flatten by 0.5 on digits"']))
    assert "This sweep gives one: attnbench sweep" in said and said.strip().endswith(stores[1])
    said = exits(2, main([*stores, 'power="nala > flaten by 0.5 on tile_recall"']))
    assert "Did you mean flatten" in said
    said = exits(0, main(['power="nala > flatten by 0.5 on tile_recall"', stores[1]]))
    assert "nala less flatten on tile_recall: " in said


def test_seconds_count_on_every_core_and_a_score_with_a_unit_is_in_no_points():
    in_unit = [changed(r, unit="bits per byte") for r in pairs(3)]
    records = [replace(r, cell=replace(r.cell, num_threads=4)) for r in in_unit]
    first, _, last = answer(QUESTION, pilot_of(QUESTION, records))
    assert "+0.01 bits per byte over 3 stored seeds, spread 0.01" in first
    assert last.endswith("at 240 core-seconds a seed of both")
