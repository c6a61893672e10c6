import subprocess
from types import SimpleNamespace

import pytest
import torch

from bench.measuring.measure.card import before_and_after, card_state

CARD = torch.device("cuda", 0)


@pytest.fixture(autouse=True)
def one_card(monkeypatch):
    properties = SimpleNamespace(uuid="aa-bb")
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: properties)


def answering(text, code=0, asked=None):
    def run(words, **_):
        if asked is not None:
            asked.extend(words)
        return subprocess.CompletedProcess(words, code, stdout=text)

    return run


def test_clocks_power_and_temperature_are_read_of_the_card_with_this_uuid():
    asked = []
    found = card_state(CARD, answering("1980, 2619, 351.27, 41\n", asked=asked))
    assert found == {
        "sm_clock_mhz": 1980.0,
        "memory_clock_mhz": 2619.0,
        "power_w": 351.27,
        "temperature_c": 41.0,
    }
    assert "--id=GPU-aa-bb" in asked


def test_what_a_card_does_not_tell_is_left_out():
    found = card_state(CARD, answering("1980, [N/A], [N/A], 41\n"))
    assert found == {"sm_clock_mhz": 1980.0, "temperature_c": 41.0}


def test_a_tool_that_fails_is_missing_or_hangs_gives_nothing():
    def missing(words, **_):
        raise FileNotFoundError(words[0])

    def hanging(words, **_):
        raise subprocess.TimeoutExpired(words, 10)

    assert card_state(CARD, answering("no devices", code=9)) == {}
    assert card_state(CARD, missing) == card_state(CARD, hanging) == {}


def test_a_processor_is_not_asked():
    def run(words, **_):
        raise AssertionError("asked")

    assert card_state(torch.device("cpu"), run) == {}


def test_two_states_stand_side_by_side_in_a_record():
    both = before_and_after({"power_w": 90.0}, {"power_w": 350.0})
    assert both == {"power_w_before": 90.0, "power_w_after": 350.0}
