"""A page of docs/results: what was trained, where, by what command, in what time."""

from dataclasses import replace

from bench.core.record import Status
from bench.publishing.accuracy import accuracy_page, chosen, main, wall_s
from bench.publishing.document import markdown
from tests import records as made
from tests.records import failed_record, task_cell

COMMAND = "attnbench sweep 'seq_len=[]' 'task=[recall]'"


def at(record, started_at, total_s, sweep=made.SWEEP):
    return replace(record, started_at=started_at, cost_s={"total": total_s}, sweep=sweep)


def stored(folder, records):
    made.stored(folder, *records, name="sweep")
    return folder


def test_wall_time_is_from_the_first_start_to_the_last_end_of_each_sweep():
    one, two, three = made.task_records(["softmax"])
    records = [
        at(one, "2031-05-06T07:00:00Z", 60.0),
        at(two, "2031-05-06T07:00:30Z", 60.0),  # beside the first
        at(three, "2031-05-07T07:00:00Z", 10.0, sweep="next day"),
    ]
    assert wall_s(records) == 100.0
    lost = failed_record(task_cell("gla"), Status.SKIPPED, "It has no causal form.")
    page = markdown(accuracy_page([*records, lost], COMMAND))
    assert "3 trainings in 1 min 40 s of wall time" in page
    exported = [replace(r, environment=r.environment | {"commit": None}) for r in records]
    assert ", commit unknown, 2031" in markdown(accuracy_page(exported, COMMAND))


def test_a_page_has_the_tasks_asked_for_and_no_timings():
    recall, digits = made.task_records(["nala"]), made.task_records(["nala"], task="digits")
    everything = [*recall, *digits, *made.block_records(["softmax"])]
    assert chosen(everything, []) == [*recall, *digits]
    assert chosen(everything, ["digits"]) == digits


def test_the_command_writes_the_page_with_pictures_in_a_folder_of_its_name(tmp_path, capsys):
    trained = [made.with_work(r, settings={"seq_len": 64}) for r in made.task_records(["softmax"])]
    folder = stored(tmp_path / "runs", [made.changed(r, longer={"128": 0.5}) for r in trained])
    page = tmp_path / "docs" / "lengths.md"
    assert main([str(folder), str(page), COMMAND, "recall"]) == 0
    (picture,) = (tmp_path / "docs" / "lengths").iterdir()
    assert picture.suffix == ".svg" and f"](lengths/{picture.name})" in page.read_text()
    assert str(page) in capsys.readouterr().out


def test_a_misspelt_task_or_an_empty_folder_is_refused(tmp_path, exits):
    folder = stored(tmp_path / "runs", made.task_records(["nala"]))
    said = exits(2, main([str(folder), str(tmp_path / "a.md"), COMMAND, "recal"]))
    assert "did you mean recall?" in said.lower()
    assert main([str(tmp_path / "nowhere"), str(tmp_path / "a.md"), COMMAND]) == 2
    assert main([str(folder)]) == 2
    assert not (tmp_path / "a.md").exists()


def test_what_was_timed_in_the_same_folder_follows_as_tables_of_speed(tmp_path):
    trained, timed = made.task_records(["nala"]), made.block_records(["softmax", "nala"])
    folder = stored(tmp_path / "runs", [*trained, *timed])
    assert main([str(folder), str(tmp_path / "a.md"), COMMAND]) == 0
    page = (tmp_path / "a.md").read_text()
    assert page.startswith("# Accuracy and speed on recall, over 3 seeds\n")
    table = page.partition("\n## Speed and state\n")[2]
    assert "Timed on Imaginary 9000" in table and "2 cells: 2 ok" in table
    assert "| 1 " in table and "speed-up over softmax" in table
    assert main([str(folder), str(tmp_path / "a.md"), COMMAND, "recall"]) == 0
    assert "Speed and state" not in (tmp_path / "a.md").read_text()
