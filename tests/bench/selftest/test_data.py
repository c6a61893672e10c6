import json
from dataclasses import replace

import pytest

from bench.app.errors import ConfigError
from bench.selftest.data import Journal, new_session, newest_run, read_run, sources
from tests.bench.selftest.runs import CELLS, COMMAND, HERE, config, gate_line, write_run
from tests.records import kernel_cell


def session(**changes):
    return new_session(HERE, config(**changes).settings, CELLS, COMMAND)


def test_what_was_appended_is_read_back_with_what_it_was_made_with(tmp_path):
    run = write_run(tmp_path, [gate_line(0), gate_line(1, "SLOWER")])
    assert [line["verdict"] for line in run.lines] == ["SAME", "SLOWER"]
    (made_with,) = run.sessions
    assert made_with.command == COMMAND and made_with.environment["commit"] == "0" * 40
    assert made_with.settings["effort"]["fork_s"] == 0.2


def test_a_second_start_goes_on_with_the_first_ones_file(tmp_path):
    first = write_run(tmp_path, [gate_line(0)])
    again = Journal(tmp_path, session())
    assert again.path == first.path and again.done == first.done
    again.append(gate_line(1))
    run = newest_run(tmp_path)
    assert len(run.sessions) == 2 and len(run.lines) == 2


@pytest.mark.parametrize(
    "other",
    [
        session(effort={"fork_s": 0.3}),
        new_session(replace(HERE, processor="Another"), config().settings, CELLS, COMMAND),
        new_session(replace(HERE, versions={"torch": "9"}), config().settings, CELLS, COMMAND),
        new_session(HERE, config().settings, [kernel_cell("nala")], COMMAND),
    ],
    ids=["settings", "processor", "versions", "mechanism"],
)
def test_numbers_that_were_made_otherwise_are_not_mixed(tmp_path, other):
    first = write_run(tmp_path, [gate_line(0)])
    assert Journal(tmp_path, other).done == set()
    assert len(read_run(first.path).lines) == 1


def test_another_commit_of_the_same_tested_sources_goes_on(tmp_path):
    write_run(tmp_path, [gate_line(0)])
    later = new_session(replace(HERE, commit="1" * 40), config().settings, CELLS, COMMAND)
    assert len(Journal(tmp_path, later).done) == 1


def test_a_change_of_a_tested_file_is_seen_and_one_of_another_is_not(tmp_path):
    for name in ("bench/gate/versus.py", "bench/report.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("a")
    before = sources(tmp_path)
    (tmp_path / "bench/report.py").write_text("b")
    assert sources(tmp_path) == before
    (tmp_path / "bench/gate/versus.py").write_text("b")
    assert sources(tmp_path) != before


def test_fresh_begins_anew(tmp_path):
    write_run(tmp_path, [gate_line(0)])
    assert Journal(tmp_path, session(), fresh=True).done == set()


def test_a_torn_last_line_is_passed_over_and_measured_again(tmp_path):
    run = write_run(tmp_path, [gate_line(0), gate_line(1)])
    whole = run.path.read_text()
    run.path.write_text(whole[:-40])
    assert len(read_run(run.path).lines) == 1
    journal = Journal(tmp_path, session())
    journal.append(gate_line(1))
    assert len(read_run(run.path).lines) == 2
    assert all(json.loads(line) for line in run.path.read_text().splitlines())


def test_a_start_that_measures_nothing_leaves_no_file(tmp_path):
    Journal(tmp_path, session())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("text", "words"), [("nonsense\n", "is not JSON"), (json.dumps(gate_line()) + "\n", "begin")]
)
def test_a_file_that_is_not_ours_is_refused(tmp_path, text, words):
    (tmp_path / "x.jsonl").write_text(text)
    with pytest.raises(ConfigError, match=words):
        newest_run(tmp_path)


def test_without_data_a_sentence_says_how_to_get_it(tmp_path):
    with pytest.raises(ConfigError, match="make selftest"):
        newest_run(tmp_path)


def test_an_hour_of_data_is_small(tmp_path):
    run = write_run(tmp_path, [gate_line(i, ratio=1.0123) for i in range(100)])
    assert run.path.stat().st_size < 100 * 300 + 3000
