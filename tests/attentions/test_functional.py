"""Cores as functions."""

import functools
import inspect

import pytest
import torch

from attentions import (
    Attention,
    Geometry,
    attention_class,
    attention_names,
    build_attention,
    functional,
)
from attentions.registry import hyperparameters

H, D, N = 2, 8, 12
ONWARD, KEPT = {"is_causal": True, "return_state": True}, torch.ones(1, N, dtype=torch.bool)


def tokens(kv_heads=H, length=N):
    q, k, v = (torch.randn(1, heads, length, D) for heads in (H, kv_heads, kv_heads))
    return q, k, v


@pytest.mark.parametrize("name", ["softmax", "nala", "linear", "performer", "gla", "sigmoid"])
@pytest.mark.parametrize("is_causal", [False, True])
def test_a_function_is_its_module(name, is_causal):
    can = attention_class(name).capabilities
    if not (can.causal if is_causal else can.bidirectional):
        with pytest.raises(ValueError, match=f"{name}: is_causal is {is_causal}"):
            getattr(functional, name)(*tokens(), is_causal=is_causal)
        return
    geometry = Geometry(num_heads=H, head_dim=D, seq_len=N, causal=is_causal)
    q, k, v = tokens()
    expected = build_attention(name, geometry)(q, k, v)
    torch.testing.assert_close(getattr(functional, name)(q, k, v, is_causal=is_causal), expected)


def test_hyperparameters_masks_and_shared_heads_are_keywords():
    q, k, v = tokens(kv_heads=1)
    seen = torch.rand(1, N) < 0.7
    geometry = Geometry(num_heads=H, num_kv_heads=1, head_dim=D, seq_len=N)
    expected = build_attention("nala", geometry, key_power=2.0)(q, k, v, key_mask=seen)
    found = functional.nala(q, k, v, key_power=2.0, key_mask=seen, enable_gqa=True)
    torch.testing.assert_close(found, expected)
    with pytest.raises(ValueError, match="enable_gqa=True"):
        functional.nala(q, k, v)


SCALED = [
    name
    for name in attention_names()
    if issubclass(kind := attention_class(name), Attention)
    and not kind.capabilities.requires
    and "scale" in hyperparameters(name)
]


@pytest.mark.parametrize("name", SCALED)
def test_a_scale_is_head_dims_unless_the_paper_has_none(name):
    function, scale = getattr(functional, name), D**-0.5
    q, k, v = tokens()
    if name in ("rwkv6", "log_linear"):
        scale = 1.0
        assert "1, not head_dim^(-1/2)" in function.__doc__
    else:
        assert "head_dim^(-1/2) if None" in function.__doc__
    found = function(q, k, v, is_causal=True, scale=None)
    torch.testing.assert_close(found, function(q, k, v, is_causal=True, scale=scale))


def test_a_state_goes_on_where_the_tokens_ended():
    q, k, v = tokens()
    expected = functional.linear(q, k, v, is_causal=True)
    first, rest = zip(*(x.split((5, 7), dim=2) for x in (q, k, v)), strict=True)
    out, state = functional.linear(*first, is_causal=True, return_state=True)
    more = functional.linear(*rest, is_causal=True, initial_state=state)
    torch.testing.assert_close(torch.cat((out, more), dim=2), expected)


@pytest.mark.parametrize("name", ["softmax", "fox", "topk", "sigmoid", "cosformer", "log_linear"])
def test_a_state_has_room_for_the_tokens_of_all_calls(name):
    q, k, v = tokens()
    function = functools.partial(getattr(functional, name), is_causal=True)
    expected = function(q, k, v)
    first, rest = zip(*(x.split((5, 7), dim=2) for x in (q, k, v)), strict=True)
    out, state = function(*first, return_state=True, seq_len=N)
    calls = [{"seq_len": N}, {}] if hasattr(state, "k") else [{"seq_len": N}]
    for sizes in calls:  # the room of a cache says how many tokens there may be
        more = function(*rest, initial_state=state, **sizes)
        torch.testing.assert_close(torch.cat((out, more), dim=2), expected)


@pytest.mark.parametrize(
    ("name", "keywords", "said"),
    [
        ("nala", {"scale": 0.5}, "nala: scale was given, .* multiplied by a factor"),
        ("nala", {"return_state": True}, "nala: a state .* no recurrent form"),
        ("linear", {"return_state": True}, "a state .* is_causal=True is needed"),
        ("cosformer", {"key_mask": KEPT}, "key_mask was given, and it hides no keys"),
        ("softmax", ONWARD | {"attn_mask": KEPT}, "attn_mask was given beside a state"),
        ("differential", {}, "draws its weights at random.*weights= is needed, with lambda_q1"),
        ("linformer", {"weights": {"proj_k": KEPT}}, "weights= is needed, with proj_v"),
        ("nala", {"lamb": 2.0}, "nala: lamb was given.*rope, lam, tau, key_power, eps"),
        ("nala_layer", {}, "owns its projections"),
    ],
)
def test_what_a_core_cannot_do_is_refused_by_name(name, keywords, said):
    with pytest.raises(ValueError, match=said):
        functional.mix(name, *tokens(), **keywords)


def test_every_core_has_a_function_with_its_hyperparameters_in_its_signature():
    names = dir(functional)
    assert "nala" in names and "nala_layer" not in names
    parameters = inspect.signature(functional.nala).parameters
    assert {"is_causal", "key_mask", "lam", "eps"} <= parameters.keys()
    assert all(issubclass(attention_class(name), Attention) for name in names if name != "mix")
    with pytest.raises(AttributeError, match="nothing"):
        functional.nothing  # noqa: B018
    for name in names:
        assert "is_causal" in inspect.signature(getattr(functional, name)).parameters


@pytest.mark.parametrize("name", ["differential", "linformer", "agent", "local_only"])
def test_weights_that_a_new_core_draws_are_given_and_nothing_is_drawn(name):
    core = build_attention(name, Geometry(num_heads=H, head_dim=D, seq_len=N))
    q, k, v = tokens()
    before = torch.get_rng_state()
    found = getattr(functional, name)(q, k, v, weights=dict(core.named_parameters()))
    assert torch.equal(torch.get_rng_state(), before)
    torch.testing.assert_close(found, core(q, k, v))


@pytest.mark.parametrize("is_causal", [False, True])
@pytest.mark.parametrize("kind", [None, torch.bool, torch.float32])
@pytest.mark.parametrize("shared", [False, True])
def test_softmax_takes_the_arguments_of_torch_and_gives_its_bits(is_causal, kind, shared):
    q, k, v = tokens(kv_heads=1 if shared else H)
    mask = None if kind is None else torch.randn(N, N)
    mask = mask > 0 if kind is torch.bool else mask
    theirs, later = mask, torch.ones(N, N).triu(1) > 0
    if mask is not None and is_causal:  # which torch takes as one
        theirs = mask & ~later if kind is torch.bool else mask.masked_fill(later, -torch.inf)
    settings = {"scale": 0.3, "dropout_p": 0.5, "enable_gqa": shared}
    torch.manual_seed(0)
    found = functional.softmax(q, k, v, attn_mask=mask, is_causal=is_causal, **settings)
    torch.manual_seed(0)
    alone = is_causal and mask is None
    k, v = (x.expand(-1, H, -1, -1) for x in (k, v))
    settings["enable_gqa"] = False
    expected = torch.nn.functional.scaled_dot_product_attention(
        q, k, v, theirs, is_causal=alone, **settings
    )
    assert torch.equal(found, expected)


@pytest.mark.parametrize("name", ["flatten", "linear"])
def test_a_function_compiles_into_one_graph_for_each_length(name):
    torch._dynamo.reset()
    can = attention_class(name).capabilities
    keywords = {"is_causal": can.causal} | ({"return_state": True} if name == "linear" else {})
    function = functools.partial(getattr(functional, name), **keywords)
    compiled = torch.compile(lambda *x: function(*x), backend="eager", fullgraph=True)
    for length in (N, 20):
        given = tokens(length=length)
        torch.testing.assert_close(compiled(*given), function(*given))


def test_tokens_before_heads_are_told_from_heads_before_tokens():
    q, k, v = torch.randn(3, 1, 2 * N, H, D)
    said = r"the layout is \(B, H, N, D\); .* fit after x.transpose\(1, 2\)"
    with pytest.raises(ValueError, match=rf"24 heads and 2 tokens; {said}.* seq_len=2 says so"):
        functional.nala(q, k, v)
    with pytest.raises(ValueError, match=said):
        functional.nala(q, k[:, :N], v[:, :N])
    with pytest.raises(ValueError, match=said):
        build_attention("nala", Geometry(num_heads=H, head_dim=D, seq_len=N))(q, k, v)
    with pytest.raises(ValueError, match=rf"log_decay .* {said}"):
        functional.fox(*tokens(), is_causal=True, log_decay=-torch.rand(1, N, H))
    meant = functional.nala(q, k, v, seq_len=2)
    heads_first = (x.transpose(1, 2).contiguous().transpose(1, 2) for x in (q, k, v))
    torch.testing.assert_close(functional.nala(*heads_first), meant)  # as projections lie
