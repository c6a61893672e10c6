"""The product of axes, and what of it is not planned."""

import pytest

from bench.core.cli.errors import ConfigError
from bench.measuring.config import read_sweep_config
from bench.measuring.plan import left_out, plan, planned_shapes
from tests.bench.measuring.test_config import BASE


def axes(**changes):
    return read_sweep_config(BASE | {"seq_len": 64, "batch_size": 4} | changes).axes


def test_axes_that_are_left_alone_hide_nothing():
    (only,) = planned_shapes(axes())
    assert (only.key_len, only.padding, only.ragged) == (None, 0.0, 0.0)


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


def planned(**changes):
    return plan(read_sweep_config(BASE | {"seq_len": 64, "task": {}} | changes))


def why(mechanism, **changes):
    (one,) = planned(attention={"x": {"mechanism": mechanism}}, **changes)
    return one.unsupported


def test_a_mechanism_that_does_not_take_a_shape_is_skipped_with_a_sentence():
    assert why("linear", key_len=32, padding=0.25) is None
    assert why("linformer", key_len=32) == "linformer needs as many keys as queries."
    assert why("cosformer", key_len=32) is None
    assert why("cosformer", padding=0.25) == "cosformer takes no mask over keys."
    assert why("linformer", ragged=0.5, batch_size=2) == "linformer takes no mask over keys."


def test_what_settings_refuse_is_heard_before_anything_is_measured():
    rotated = {"nala_rope": {"mechanism": "nala", "rope": True}}
    (one,) = planned(attention=rotated, key_len=32)
    assert "rope=True needs as many keys as queries" in one.unsupported
