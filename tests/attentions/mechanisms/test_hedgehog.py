from functools import partial

import pytest
import torch

from attentions import Geometry, build_attention
from tests.attentions.calls import built

build = partial(built, "hedgehog", head_dim=3, seq_len=6, value_dim=4, stir=0.5)


def test_maps_start_as_the_identity():
    core = build_attention("hedgehog", Geometry(num_heads=2, head_dim=3, seq_len=6))
    x = torch.randn(1, 2, 6, 3)
    expected = torch.cat((x.softmax(dim=-1), (-x).softmax(dim=-1)), dim=-1)
    torch.testing.assert_close(core.query_features(x), expected)
    torch.testing.assert_close(core.key_features(x), expected)


@pytest.mark.parametrize("settings", [{"tie_heads": True}, {"tie_qk": True}, {"bias": False}])
def test_shared_maps_have_the_same_reference(settings, qkv):
    tensors, core = qkv(1, 2, 6, 3, value_dim=4), build(**settings)
    torch.testing.assert_close(core(*tensors), core.reference(*tensors))


def test_features_that_meet_nowhere_give_a_mean_instead_of_nothing():
    core = build_attention("hedgehog", Geometry(num_heads=1, head_dim=3, seq_len=1))
    q = torch.tensor([500.0, 0.0, -500.0])[None, None, None]
    k = torch.tensor([0.0, 500.0, 500.0])[None, None, None]
    v = torch.ones(1, 1, 1, 3)
    assert core(q, k, v).gt(0.3).all()
