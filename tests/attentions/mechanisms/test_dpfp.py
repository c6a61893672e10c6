from functools import partial

import torch

from tests.attentions.calls import built

build = partial(built, "dpfp", seq_len=6, value_dim=3)


def test_features_of_a_negative_vector_are_positive():
    x = -torch.rand(1, 1, 5, 4) - 0.1
    phi = build(nu=2).query_features(x)
    assert phi.ge(0).all() and phi.gt(0).any()


def test_one_channel_has_nothing_to_be_multiplied_with():
    core = build(head_dim=1)
    assert (
        core(torch.randn(1, 2, 6, 1), torch.randn(1, 2, 6, 1), torch.randn(1, 2, 6, 3)).eq(0).all()
    )
