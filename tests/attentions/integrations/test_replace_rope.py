"""Attentions of timm whose queries and keys are turned by their position before they are mixed."""

import copy
from typing import Any

import pytest
import torch
from torch import nn

from attentions import replace_attention, replaced_attention
from attentions.integrations.swapped import Swapped
from tests.attentions.integrations.replacing import images

timm: Any = pytest.importorskip("timm", reason="needs timm: pip install 'attnbench[models]'")


def eva(**settings):
    """Two blocks on a grid of 4x4 patches; no parameter, nor any bias, is zero."""
    torch.manual_seed(0)
    sizes = {"img_size": 32, "patch_size": 8, "embed_dim": 32, "depth": 2, "num_heads": 2}
    own = {**sizes, "num_classes": 5, "use_rot_pos_emb": True, **settings}
    model = timm.models.eva.Eva(**own)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.5)
    return model.eval()


KINDS: list[dict[str, Any]] = [
    {},
    {"qkv_fused": False},
    {"qkv_bias": False},
    {"qk_norm": True, "scale_attn_inner": True},
    {"num_reg_tokens": 3},
    {"use_rot_pos_emb": False},
    {"attn_type": "rope"},
    {"attn_type": "rope", "qkv_fused": False},
]


@pytest.mark.parametrize("settings", KINDS, ids=str)
def test_softmax_changes_nothing_and_every_weight_keeps_name_and_value(settings):
    model = eva(**settings)
    expected, before = model(images()), copy.deepcopy(model.state_dict())
    replace_attention(model, "softmax")
    assert sum(isinstance(module, Swapped) for module in model.modules()) == 2
    torch.testing.assert_close(model(images()), expected, atol=1e-5, rtol=1e-5)
    after = model.state_dict()
    assert after.keys() == before.keys()
    for name, tensor in before.items():
        assert torch.equal(after[name], tensor), name


@pytest.mark.parametrize("mechanism", ["linear", "nala", "flatten"])
@pytest.mark.parametrize("settings", [{}, {"attn_type": "rope"}], ids=str)
def test_every_parameter_learns(mechanism, settings):
    model = replace_attention(eva(**settings), mechanism).train()
    model(images()).square().mean().backward()
    assert [name for name, p in model.named_parameters() if p.grad is None] == []


def test_the_grid_of_the_patches_is_found_and_follows_the_images():
    settings = {"class_token": False, "global_pool": "avg", "dynamic_img_size": True}
    model = replace_attention(eva(**settings), "nala", rope=True)
    attention: Any = model.get_submodule("blocks.0.attn")
    assert attention.core.geometry.grid == (4, 4)
    model(images(16, 64))
    assert attention.core.geometry.grid == (2, 8)


@pytest.mark.parametrize("kind", ["AttentionRope", "EvaAttention"])
@pytest.mark.parametrize("settings", [{"gated": True}, {"rotate_half": True}], ids=str)
def test_softmax_in_an_attention_alone_changes_no_call(kind, settings):
    home: Any = timm.layers if kind == "AttentionRope" else timm.models.eva
    try:
        attention = getattr(home, kind)(32, num_heads=2, scale_norm=False, **settings)
    except (AttributeError, TypeError):
        pytest.skip(f"this timm has no such {kind}")
    for parameter in attention.parameters():
        nn.init.normal_(parameter)
    x, mask = torch.randn(2, 9, 32), torch.rand(9, 9) < 0.6
    angles = torch.rand(8, 16)
    rope = torch.cat((angles.sin(), angles.cos()), dim=-1)
    calls = ({}, {"attn_mask": mask | torch.eye(9, dtype=torch.bool)}, {"is_causal": True})
    expected = [attention(x, rope, **call) for call in calls]
    swapped = replaced_attention(attention, "softmax")
    for call, want in zip(calls, expected, strict=True):
        torch.testing.assert_close(swapped(x, rope, **call), want, atol=1e-4, rtol=1e-4)


def test_fewer_heads_of_keys_and_values_stand_for_several_of_queries():
    layers: Any = timm.layers
    if not hasattr(layers, "AttentionRope"):
        pytest.skip("this timm has no AttentionRope")
    try:
        attention = layers.AttentionRope(32, num_heads=4, num_kv_heads=2, qkv_fused=False).eval()
    except TypeError:
        pytest.skip("this timm shares no heads")
    x, rope = images(9, 32)[:, 0], torch.randn(8, 16)
    expected = attention(x, rope)
    out = replaced_attention(attention, "softmax")(x, rope)
    torch.testing.assert_close(out, expected, atol=1e-5, rtol=1e-5)
