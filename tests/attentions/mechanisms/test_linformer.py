from functools import partial

import pytest
import torch

from tests.attentions.calls import built

build = partial(built, "linformer", seq_len=7, value_dim=3, projected_len=5)


def test_sharing_leaves_one_projection():
    assert {n for n, _ in build(share_kv=True).named_parameters()} == {"proj_k"}
    assert {n for n, _ in build().named_parameters()} == {"proj_k", "proj_v"}


def test_projections_start_uniform_within_one_over_the_root_of_their_length():
    core = build(seq_len=100, projected_len=16)
    for projection in core.parameters():
        assert projection.shape == (100, 16)
        assert 0.2 < projection.abs().max() <= 0.25


@pytest.mark.parametrize("values_are_keys", [False, True])
@pytest.mark.parametrize("share_kv", [False, True])
def test_a_layer_gives_what_its_slow_form_gives_with_shared_projections(share_kv, values_are_keys):
    settings = {"projected_len": 5, "share_kv": share_kv, "values_are_keys": values_are_keys}
    layer = built("linformer_layer", seq_len=7, **settings)
    x = torch.randn(2, 7, 8, dtype=torch.float64)
    torch.testing.assert_close(layer(x), layer.reference(x))
    assert (layer.to_v is None) == values_are_keys
