"""A reduced torture test, beside the damaged stores of test_mutations; see `make torture`."""

from random import Random

import pytest

from bench.__main__ import COMMANDS
from tests import records as made
from tests.torture import links, overrides, settled
from tests.torture.kills import kills, sweep_of
from tests.torture.trial import TINY_SWEEP


@pytest.mark.slow
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


def test_links_and_pipes_in_stores_find_no_fault(tmp_path):
    trials = list(links.links(40, Random(0), tmp_path))
    assert [trial.fault for trial in trials if trial.fault] == []


def test_malformed_words_are_tried_on_every_command():
    tried = {*overrides.COMMANDS, *overrides.WORD_COMMANDS, "smoke"}  # which is a sweep
    assert tried == set(COMMANDS)
    assert {"explain", "identity", "format", "hybrid", "budget", "presets"} <= {
        key for command in overrides.COMMANDS for key in overrides.keys(command)
    }
