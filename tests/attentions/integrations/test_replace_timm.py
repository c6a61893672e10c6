import copy
import pickle
from typing import Any

import pytest
import torch
from torch import nn

from attentions import attention_class, attention_names, replace_attention, replaced_attention
from tests.attentions.integrations.replacing import (
    images,
    losses,
    needs_timm,
    replaced,
    vision_transformer,
    without_class_token,
)


@pytest.mark.parametrize("settings", [{}, {"reg_tokens": 2}, {"qk_norm": True, "qkv_bias": False}])
def test_softmax_in_place_of_softmax_changes_nothing(settings):
    model = vision_transformer(**settings)
    expected = model(images())
    torch.testing.assert_close(
        replace_attention(model, "softmax")(images()), expected, atol=1e-5, rtol=1e-5
    )


NEWER: list[dict[str, Any]] = [
    {"gated": True, "qkv_bias": True},
    {"scale_norm": True, "qk_norm": True, "norm_layer": nn.LayerNorm},
    {"attn_head_dim": 8, "dim_out": 20},
]
"""Names that not every version of timm has."""


@pytest.mark.parametrize("settings", NEWER, ids=str)
def test_softmax_in_an_attention_alone_changes_no_call(settings):
    try:
        attention = needs_timm().layers.Attention(32, 2, **settings)
    except TypeError:
        pytest.skip("this timm has no such attention")
    for parameter in attention.parameters():
        nn.init.normal_(parameter)
    x, mask = torch.randn(2, 9, 32), torch.rand(9, 9) < 0.6
    mask |= torch.eye(9, dtype=torch.bool)
    added = torch.zeros(9, 9).masked_fill(~mask, -torch.inf)
    calls = ({}, {"is_causal": True}, {"attn_mask": mask}, {"attn_mask": added})
    expected = [attention(x, **call) for call in calls]
    swapped = replaced_attention(attention, "softmax")
    for call, want in zip(calls, expected, strict=True):
        torch.testing.assert_close(swapped(x, **call), want, atol=1e-4, rtol=1e-4)


def test_weights_of_the_model_keep_their_names_and_values():
    model = vision_transformer()
    before = copy.deepcopy(model.state_dict())
    after = replace_attention(model, "flatten").state_dict()
    assert {name for name in after if name not in before} == {
        "blocks.0.attn.core.scale",
        "blocks.1.attn.core.scale",
    }
    for name, tensor in before.items():
        assert torch.equal(after[name], tensor)


@pytest.mark.parametrize("mechanism", ["softmax", "linear", "flatten", "nala", "agent"])
def test_a_changed_model_learns(mechanism):
    model = replace_attention(vision_transformer(), mechanism, **settings_for(mechanism)).train()
    seen = losses(model, lambda: model(images()))
    assert seen[-1] < seen[0]
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name


def settings_for(mechanism):
    return {"num_agents": 4} if mechanism == "agent" else {}


def usable(name):
    can = attention_class(name).capabilities
    is_ours = not can.requires and not name.endswith("_published")
    return "core" in can.scopes and can.bidirectional and not can.gates and is_ours


FIRST = ("agent", "cosformer", "linformer", "local_only", "nala", "performer", "rala", "sigmoid")
"""A core of each kind; the slow tests take all others."""


@pytest.mark.parametrize(
    "mechanism",
    [
        *FIRST,
        *(
            pytest.param(name, marks=pytest.mark.slow)
            for name in attention_names()
            if usable(name) and name not in FIRST
        ),
    ],
)
def test_every_bidirectional_core_works_or_says_why_not(mechanism):
    model = vision_transformer()
    try:
        with torch.no_grad():
            out = replace_attention(model, mechanism, **settings_for(mechanism))(images())
    except ValueError as error:
        assert mechanism in ("local_only", "rala")
        assert "all tokens must lie on a grid" in str(error)
    else:
        assert out.isfinite().all()


def test_a_mechanism_that_needs_a_grid_gets_the_patches():
    model = replace_attention(without_class_token(img_size=(32, 64)), "local_only")
    swapped = model.get_submodule("blocks.0.attn")
    assert swapped.core.geometry.grid == (4, 8)
    assert model(images(32, 64)).shape == (2, 5)


def test_one_token_before_the_grid_is_a_class_token_to_those_who_know_it():
    model = replace_attention(vision_transformer(), "agent", num_agents=4)
    assert "class_token=True" in str(model)
    with pytest.raises(ValueError, match="all tokens must lie on a grid, and here a token stands"):
        replace_attention(vision_transformer(), "agent", num_agents=4, class_token=False)
    with pytest.raises(ValueError, match="all tokens must lie on a grid, and here 3 tokens stand"):
        replace_attention(vision_transformer(reg_tokens=2), "agent", num_agents=4)


def test_a_grid_that_not_all_tokens_fill_is_refused_before_anything_is_changed():
    model = vision_transformer()
    with pytest.raises(ValueError, match=r"grid is 4x4, and blocks\.0\.attn gets 17 tokens"):
        replace_attention(model, "local_only", grid=(4, 4))
    assert replaced(model) == set()
    assert replace_attention(model, "local_only", grid=(1, 17))(images()).shape == (2, 5)


def test_the_grid_follows_the_images():
    """Sixteen patches as 2x8 are not those of 4x4."""
    swapped = replace_attention(without_class_token(dynamic_img_size=True), "nala", rope=True)
    out = swapped(images(16, 64))
    fixed = replace_attention(without_class_token(img_size=(16, 64)), "nala", rope=True)
    state = {k: v for k, v in swapped.state_dict().items() if k != "pos_embed"}
    fixed.load_state_dict(state, strict=False)
    with torch.no_grad():
        model: Any = fixed
        model.pos_embed.zero_()
        varying: Any = swapped
        varying.pos_embed.zero_()
    torch.testing.assert_close(swapped(images(16, 64)), fixed(images(16, 64)))
    assert out.isfinite().all()


def test_a_changed_model_can_be_copied_and_pickled():
    model = replace_attention(without_class_token(dynamic_img_size=True), "nala", rope=True)
    expected = model(images(16, 64))
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert torch.equal(twin(images(16, 64)), expected)


def test_a_subclass_with_a_forward_of_its_own_is_left_alone():
    timm = needs_timm()

    class OddAttention(timm.layers.Attention):
        def forward(self, x):
            return x

    with pytest.raises(ValueError, match=r"Nothing to replace.*0: OddAttention"):
        replace_attention(nn.Sequential(OddAttention(8, 2)), "linear")


def test_hooks_of_the_old_attention_are_called_and_can_be_removed():
    model, seen = vision_transformer(), []
    attention = model.get_submodule("blocks.0.attn")
    handles = (
        attention.register_forward_hook(lambda *call: seen.append("after")),
        attention.register_forward_pre_hook(lambda *call: seen.append("before")),
        attention.register_forward_hook(
            lambda module, given, named, out: seen.append(type(named).__name__), with_kwargs=True
        ),
    )
    replace_attention(model, "linear")(images())
    assert seen == ["before", "after", "dict"]
    for handle in handles:
        handle.remove()
    model(images())
    assert len(seen) == 3


def test_a_changed_model_compiles_in_one_graph():
    model = replace_attention(vision_transformer(), "linear")
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(images()), model(images()))
