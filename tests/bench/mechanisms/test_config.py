"""What may be asked for, and what is said to a mistake."""

from __future__ import annotations

from typing import Any

import pytest

from bench.app.errors import ConfigError
from bench.mechanisms.config import read_mechanisms_config
from tests.bench.mechanisms.runs import composed

EFFORT = composed()["effort"]


def test_a_configuration_is_read_whole() -> None:
    config = read_mechanisms_config(composed())
    assert [entry.label for entry in config.attention] == ["nala", "linear"]
    assert config.seq_len == (64, 256), "from short to long"
    assert str(config.out) == "results/mechanisms"
    assert config.effort.min_rounds == 6


def test_what_decides_a_number_is_in_the_settings_and_what_does_not_is_not() -> None:
    usual = read_mechanisms_config(composed()).settings
    for changes in (
        {"max_minutes": 1},
        {"out": "elsewhere"},
        {"page": "x.md"},
        {"fresh": True},
        {"again": "x"},
    ):
        assert read_mechanisms_config(composed(**changes)).settings == usual
    for changes in ({"head_dim": 16}, {"seq_len": 64}, {"effort": EFFORT | {"min_rounds": 7}}):
        assert read_mechanisms_config(composed(**changes)).settings != usual


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"attention": None}, "attention is empty"),
        ({"seq_len": []}, "seq_len"),
        ({"seq_len": [0]}, "seq_len is 0; it takes a whole number of 1 or more"),
        ({"mode": "backward"}, "mode=backward is not known"),
        ({"causal": ["no"]}, "causal is 'no'; it takes true or false"),
        ({"allocator": "jemalloc"}, "allocator=jemalloc is not known"),
        ({"dtype": "float8"}, "dtype=float8 is not known"),
        ({"max_minutes": "long"}, "max_minutes is 'long'"),
        ({"effort": 3}, "effort is 3"),
        ({"effort": EFFORT | {"max_rounds": 5}}, "effort.max_rounds=5 is below"),
        ({"report": 1}, "report is 1"),
    ],
)
def test_a_mistake_is_named(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        read_mechanisms_config(composed(**changes))
