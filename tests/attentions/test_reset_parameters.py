"""Modules that get their memory after they were built, as sharded training builds them."""

import pytest
import torch

from attentions import Geometry, attention_class, attention_names, build_attention

NAMES = [name for name in attention_names() if not attention_class(name).capabilities.requires]


def build(name, num_kv_heads=2, **settings):
    can = attention_class(name).capabilities
    sizes = {"num_heads": 2, "num_kv_heads": num_kv_heads, "head_dim": 8, "seq_len": 256}
    return build_attention(name, Geometry(**sizes, causal=not can.bidirectional), **settings)


def assert_begins_as_new(make):
    with torch.device("meta"):
        module = make()
    module = module.to_empty(device="cpu")
    for x in module.state_dict().values():
        x.fill_(torch.nan)
    torch.manual_seed(0)
    module.reset_parameters()
    torch.manual_seed(0)
    expected = make().state_dict()
    found = module.state_dict()
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[x], expected[x]) for x in found)


@pytest.mark.parametrize("name", NAMES)
def test_a_module_from_meta_begins_as_a_new_one(name):
    assert_begins_as_new(lambda: build(name))


def test_settings_and_shared_heads_are_as_they_were():
    assert_begins_as_new(lambda: build("performer", num_features=3, projection_seed=5))
    assert_begins_as_new(lambda: build("kda", num_kv_heads=1))
    assert build("performer", num_features=3).extra_repr().endswith("num_features=3")


def test_rates_sinks_and_biases_have_no_weight_decay_and_maps_have():
    assert build("softmax_sinks").no_weight_decay() == {"sinks"}
    assert build("kda").no_weight_decay() == {"log_rate", "beta_logit"}
    assert build("linformer").no_weight_decay() == set()
    layer = build("kda_layer")
    left = {name for name, x in layer.named_parameters() if x.dim() > 1} - layer.no_weight_decay()
    assert left == {name for name, x in layer.named_parameters() if name.endswith(".weight")} - {
        "norm.weight"
    }
