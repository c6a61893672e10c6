"""The product of axes, and what of it is not planned."""

import pytest

from bench.core.cli.errors import ConfigError
from bench.measuring.config import read_sweep_config
from bench.measuring.plan import left_out, planned_shapes
from tests.bench.measuring.test_config import BASE


def axes(**changes):
    return read_sweep_config(BASE | {"seq_len": 64, "batch_size": 4} | changes).axes


def test_as_many_keys_as_queries_are_the_cell_without_key_len():
    assert [w.key_len for w in planned_shapes(axes(key_len=[32, 64]))] == [32, None]
    assert [w.key_len for w in planned_shapes(axes(key_len=[None, 64, 32]))] == [None, 32]


def test_shapes_without_a_meaning_are_left_out_where_others_remain():
    wanted = axes(mode=["forward", "prefill"], causal=True, padding=[0, 0.25], ragged=[0, 0.5])
    found = [(w.mode, w.padding, w.ragged) for w in planned_shapes(wanted)]
    assert found == [
        ("forward", 0.0, 0.0),
        ("prefill", 0.0, 0.0),
        ("forward", 0.0, 0.5),
        ("forward", 0.25, 0.0),
    ]
    assert sum(left_out(wanted).values()) == 2 * 2 * 2 - len(found)


def test_a_sweep_whose_shapes_all_contradict_themselves_is_refused():
    with pytest.raises(ConfigError, match=r"key_len needs causal=false.* Change one"):
        planned_shapes(axes(key_len=32, causal=True))
    with pytest.raises(ConfigError, match="batch_size is 1"):
        planned_shapes(axes(ragged=0.5, batch_size=1))
