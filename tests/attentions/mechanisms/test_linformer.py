import pytest
import torch

from tests.attentions.calls import built


@pytest.mark.parametrize("values_are_keys", [False, True])
@pytest.mark.parametrize("share_kv", [False, True])
def test_a_layer_gives_what_its_slow_form_gives_with_shared_projections(share_kv, values_are_keys):
    settings = {"projected_len": 5, "share_kv": share_kv, "values_are_keys": values_are_keys}
    layer = built("linformer_layer", seq_len=7, **settings)
    x = torch.randn(2, 7, 8, dtype=torch.float64)
    torch.testing.assert_close(layer(x), layer.reference(x))
    assert (layer.to_v is None) == values_are_keys
