"""Prompts of unequal length in one batch, decoded together, and two ways on from one state."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from attentions import attention_class, attention_names
from tests.attentions.calls import built
from tests.refusals import refused

N = 11
CPU = torch.device("cpu")
STEPPING = [
    name
    for name in attention_names()
    if (can := attention_class(name).capabilities).recurrent
    and not can.requires
    and "core" in can.scopes
]
MASKED = [
    name
    for name in STEPPING
    if "padding" in attention_class(name).capabilities.masks and name != "log_linear"
]
WINDOWS = {"dsa": {"top_k": 3}, "fox": {"window": 3}, "softmax_sinks": {"window": 3}}
CACHES = ["dsa", "fox", "gated_attention", "moba", "sliding_window", "softmax", "topk"]


def drawn(core, batch_size, length=N):
    """Queries, keys and values, and gates by their names, in their ranges."""
    g, gates = core.geometry, {}
    for name, gate in core.gates.items():
        x = torch.randn(core.gate_shape(name, batch_size, length), dtype=torch.double)
        if gate.is_log_decay:
            x = -x.abs()
        elif math.isfinite(gate.low) and math.isfinite(gate.high):
            x = gate.low + (gate.high - gate.low) * x.sigmoid()
        elif gate.low == 0:
            x = x.abs()
        gates[name] = functional.normalize(x, dim=-1) if gate.unit else x
    sizes = (3, batch_size, g.num_heads, length, g.head_dim)
    return torch.randn(sizes, dtype=torch.double), gates


def some(core, tokens, gates, rows=slice(None), at=slice(None)):
    """Positional and keyword arguments of a call with some rows and tokens."""
    places = {name: core.gates[name].shape.index("n") for name in gates}
    some_gates = {name: x[rows][(slice(None),) * places[name] + (at,)] for name, x in gates.items()}
    return tokens[:, rows, :, at], some_gates


def decoded(core, tokens, gates, parts, mask=None):
    state = core.init_state(tokens.shape[1], dtype=tokens.dtype, device=CPU)
    outputs, end = [], 0
    for size in parts:
        at = slice(end, end := end + size)
        given_tokens, keywords = some(core, tokens, gates, at=at)
        if mask is not None and not mask[:, at].all():
            keywords["key_mask"] = mask[:, at]
        out, state = core.step(*given_tokens, state, **keywords)
        outputs.append(out)
    return torch.cat(outputs, dim=2)


@pytest.mark.parametrize("name", MASKED)
@settings(max_examples=6, deadline=None)
@given(data=st.data())
def test_prompts_padded_on_the_left_are_decoded_as_each_alone(name, data):
    core = built(name, causal=True, seq_len=N, **WINDOWS.get(name, {}))
    starts = data.draw(st.lists(st.integers(0, N - 1), min_size=2, max_size=4))
    parts = [data.draw(st.integers(1, N))]
    while (left := N - sum(parts)) > 0:
        parts.append(data.draw(st.integers(1, left)))
    tokens, gates = drawn(core, len(starts))
    mask = torch.arange(N) >= torch.tensor(starts)[:, None]
    tokens[1:].masked_fill_(~mask[:, None, :, None], torch.nan)  # no hidden key or value is read
    out = decoded(core, tokens, gates, parts, mask)
    for row, start in enumerate(starts):
        alone, keywords = some(core, tokens, gates, slice(row, row + 1), slice(start, N))
        torch.testing.assert_close(out[row : row + 1, :, start:], core(*alone, **keywords))


def test_a_tree_of_blocks_takes_no_mask_in_a_step():
    core = built("log_linear", causal=True, seq_len=N)
    tokens, _ = drawn(core, 2)
    state = core.init_state(2, dtype=torch.double, device=CPU)
    with refused("log_linear: key_mask was given for a step; a state has one place in the tree"):
        core.step(*tokens, state, key_mask=torch.ones(2, N, dtype=torch.bool))


@pytest.mark.parametrize("name", STEPPING)
def test_gradients_through_steps_are_those_of_the_whole(name):
    core = built(name, causal=True, seq_len=N, stir=0.1)
    tokens, gates = drawn(core, 1)
    tokens.requires_grad_()
    wanted = (tokens, *core.parameters())
    found = [
        torch.autograd.grad(out.sin().sum(), wanted, allow_unused=True)
        for out in (decoded(core, tokens, gates, [4, 1, 1, 5]), core(*tokens, **gates))
    ]
    torch.testing.assert_close(*found)


@torch.no_grad()  # with gradients no memory is shared
@pytest.mark.parametrize("name", CACHES)
def test_a_state_whose_memory_went_another_way_is_refused(name):
    core = built(name, causal=True, seq_len=N)
    one, two, three = torch.randn(3, 3, 1, 2, 1, 4, dtype=torch.double)
    start = core.init_state(1, dtype=torch.double, device=CPU)
    kept = core.clone_state(start)
    first, after = core.step(*one, start)
    torch.testing.assert_close(core.step(*one, start)[0], first)  # as a clock does
    with refused(f"{name}: the state is used up: .* clone_state"):
        core.step(*two, after)  # from the first of two ways on
    _, after = core.step(*one, start)
    core.step(*three, core.step(*two, after)[1])
    with refused(f"{name}: the state is used up"):
        core.step(*one, start)
    torch.testing.assert_close(core.step(*one, kept)[0], first)
