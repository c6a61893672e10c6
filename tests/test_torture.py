"""A reduced torture test, beside the damaged stores of test_mutations; see `make torture`."""

import json
import time
from random import Random

import pytest

from bench.__main__ import COMMANDS
from tests import records as made
from tests.torture import __main__ as torture
from tests.torture import links, overrides, settled
from tests.torture.kills import kills, sweep_of
from tests.torture.trial import TINY_SWEEP, Trial


def never(line):
    """Ignore a line of progress."""


def test_malformed_words_find_no_fault(tmp_path):
    trials = list(overrides.overrides(25, Random(0), tmp_path))
    assert [trial.fault for trial in trials if trial.fault] == []
    assert len(trials) == 25


@pytest.mark.slow
def test_kills_find_no_fault(tmp_path):
    # With these draws, one kill comes in the middle of measuring and two during the start.
    trials = list(kills(3, Random(95), tmp_path, [sweep_of(TINY_SWEEP, 5.0)]))
    assert [trial.fault for trial in trials if trial.fault] == []
    assert len(trials) >= 3


def test_words_are_parts_counts_and_a_seed():
    assert torture.asked(["kills", "stores=7", "seed=3"]) == ({"kills": 150, "stores": 7}, 3)
    assert torture.asked([])[0] == {name: count for name, (_, count) in torture.PARTS.items()}
    assert torture.main(["kils"]) == torture.main(["kills=few"]) == 2


def test_a_part_that_ends_early_or_with_a_fault_is_not_met(monkeypatch):
    def part(count, draw, folder):
        yield Trial(what="struck")
        yield Trial(what="struck", fault="it fell")

    monkeypatch.setitem(torture.PARTS, "kills", (part, 2))
    late = torture.torture({"kills": 2}, 0, never, time.monotonic() - 1)["kills"]
    assert (late.num_trials, late.faults, late.is_met) == (1, [], False)
    whole = torture.torture({"kills": 2}, 0, never, time.monotonic() + 60)["kills"]
    assert (whole.num_trials, whole.faults, whole.is_met) == (2, ["struck: it fell"], False)


def test_a_traceback_of_a_command_is_a_fault(tmp_path, monkeypatch):
    def broken(words):
        raise KeyError(words[0])

    monkeypatch.setattr(overrides, "COMMANDS", {"report": (broken, ("out=x",))})
    (trial,) = overrides.overrides(1, Random(0), tmp_path)
    assert "KeyError" in trial.fault


def test_a_cell_that_was_measured_twice_or_never_is_a_fault(tmp_path, monkeypatch):
    one, two = made.block_records(["softmax", "nala"], num_rounds=3)
    monkeypatch.setattr(settled, "planned", lambda plan: {one.cell.key, two.cell.key})
    (tmp_path / "records").mkdir()
    file = tmp_path / "records" / "a.jsonl"
    file.write_text(one.to_json() + "\n")
    assert settled.fault_of_store(tmp_path, is_done=False) == ""
    assert "no settled record" in settled.fault_of_store(tmp_path, is_done=True)
    file.write_text((one.to_json() + "\n") * 2)
    assert "more than once" in settled.fault_of_store(tmp_path, is_done=False)


def test_a_run_of_some_trials_is_stored_and_leaves_the_page_alone(tmp_path, monkeypatch, capsys):
    def part(count, draw, folder):
        yield Trial(what="struck", fault="it fell")

    monkeypatch.setitem(torture.PARTS, "kills", (part, 150))
    monkeypatch.setattr(torture, "RESULTS", tmp_path)
    monkeypatch.setattr(torture, "PAGE", tmp_path / "none.md")
    assert torture.main(["kills=1"]) == 1
    (file,) = tmp_path.iterdir()
    kept = json.loads(file.read_text())
    assert kept["parts"]["kills"]["faults"] == ["struck: it fell"] and kept["commit"]
    said = capsys.readouterr()
    assert "kills 1/1, 1 faults" in said.err and "it fell" in said.out
    came = {name: torture.Came(wanted=count) for name, (_, count) in torture.PARTS.items()}
    assert torture.is_whole(came) and not torture.is_whole({"kills": came["kills"]})


def test_the_page_has_the_table_of_the_last_run():
    part = {"ends": {"struck": 2}, "faults": ["it fell"], "wall_s": 3.0, "wanted": 2}
    result = {
        "started_at": "2031-05-06T07:08:09Z",
        "commit": "0" * 40,
        "seed": 0,
        "num_cores": 2,
        "processor": "Imaginary 9000",
        "parts": {"kills": part},
    }
    page = torture.PAGE.read_text()
    once = torture.page_text(page, result)
    assert torture.page_text(once, result) == once != page
    assert "| SIGKILLs at random instants | 2 | 1 |" in once
    assert once.startswith(page.partition("<!-- torture: begin -->")[0])


def test_links_and_pipes_in_stores_find_no_fault(tmp_path):
    trials = list(links.links(40, Random(0), tmp_path))
    assert [trial.fault for trial in trials if trial.fault] == []


def test_malformed_words_are_tried_on_every_command():
    tried = {*overrides.COMMANDS, *overrides.WORD_COMMANDS, "smoke"}  # which is a sweep
    assert tried == set(COMMANDS)
    assert {"explain", "identity", "format", "hybrid", "budget", "presets"} <= {
        key for command in overrides.COMMANDS for key in overrides.keys(command)
    }
