"""A state that is not its mechanism's is refused, with what was given and what is needed."""

import re
from typing import Any

import pytest
import torch
from torch.utils._pytree import tree_leaves

from attentions import Geometry, attention_class, attention_names, build_attention
from tests.refusals import refused

B, H, N, D = 2, 2, 8, 4
CPU = torch.device("cpu")
RECURRENT = [
    name
    for name in attention_names()
    if (can := attention_class(name).capabilities).recurrent
    and not can.requires
    and "core" in can.scopes
]
CACHES = ["sliding_window", "softmax", "softmax_chunked", "softmax_explicit"]
TOKENS = torch.randn(3, B, H, 1, D)


def build(name, **sizes):
    shape = {"num_heads": H, "head_dim": D, "seq_len": N} | sizes
    return build_attention(name, Geometry(causal=True, **shape))


def empty(core, batch_size=B, dtype=torch.float32):
    return core.init_state(batch_size, dtype=dtype, device=CPU)


def wrong_calls(core):
    """Words after the name of a recurrent core, and the call that makes it say so."""
    for state in [None, "a state", 3, [torch.zeros(B, H, D, D)]]:
        said = f"state is of type {type(state).__name__}; a [A-Za-z]+ is needed, as init_state"
        yield said, lambda state=state: core.step(*TOKENS, state)
    for rows in (1, B + 1):  # torch would broadcast one row
        said = rf"state[.a-z_]* is .* of shape \({rows}, .*; tokens of .* need .* of shape \({B}, "
        yield said, lambda rows=rows: core.step(*TOKENS, empty(core, rows))
    said = "mask was given; it takes no such argument for a step, but q, k, v, state"
    mask = torch.ones(B, 1, dtype=torch.bool)
    yield said, lambda: core.step(*TOKENS, empty(core), mask=mask)
    for size in [-1, 1.5, "2", True, None]:
        yield f"batch_size is {size!r}; a whole number", lambda size=size: empty(core, size)
    for dtype in [torch.int64, torch.bool, torch.complex64]:
        said = f"dtype is {dtype}; one of float32, bfloat16"
        yield said, lambda dtype=dtype: empty(core, dtype=dtype)


@pytest.mark.parametrize("name", RECURRENT)
def test_another_state_is_refused_and_an_own_one_keeps_nothing_of_the_tokens(name):
    core = build(name)
    for said, make in wrong_calls(core):
        with refused(f"{name}: {said}"):
            make()
    for length in (1, 3):
        tokens = torch.randn(3, B, H, length, D)
        _, state = core.step(*tokens, empty(core))
        kept = [x for x in tree_leaves(state) if isinstance(x, torch.Tensor)]
        theirs = tokens.untyped_storage().data_ptr()
        assert all(x.untyped_storage().data_ptr() != theirs for x in kept)


@pytest.mark.parametrize("name", RECURRENT)
def test_a_state_of_another_geometry_or_dtype_is_named_with_what_is_needed(name):
    core = build(name)
    if name != "performer":  # its state is as large for any width
        needed = re.escape(f"tokens of torch.float32 on cpu need torch.float32 of shape ({B}, {H}")
        with refused(rf"{name}: state[.a-z_]* is .*; {needed}"):
            core.step(*TOKENS, empty(build(name, head_dim=2 * D)))
    for length in (1, 3):  # a first prompt may need nothing of an empty state
        with refused(rf"{name}: state[.a-z_]* is torch.float64 of shape .*32"):
            tokens = torch.randn(3, B, H, length, D)
            core.step(*tokens, empty(core, dtype=torch.float64))


@pytest.mark.parametrize("name", CACHES)
def test_a_cache_does_not_narrow_what_it_is_given_and_is_not_filled_elsewhere(name):
    core = build(name)
    for narrow, wide in [(torch.float32, torch.float64), (torch.bfloat16, torch.float32)]:
        with refused(rf"{name}: state.k is {narrow} of .*; tokens of {wide} on cpu need {wide} of"):
            core.step(*TOKENS.to(wide), empty(core, dtype=narrow))
    nowhere = core.init_state(B, dtype=torch.float32, device=torch.device("meta"))
    with refused(f"{name}: state.k is .* on meta; tokens of torch.float32 on cpu need .* on cpu"):
        core.step(*TOKENS, nowhere)


def test_a_layer_with_a_state_looks_at_its_tokens_too():
    layer: Any = build_attention("mla", Geometry(num_heads=H, head_dim=D, seq_len=N, causal=True))
    state = layer.init_state(B, dtype=torch.float32, device=CPU)
    x = torch.randn(B, 1, H * D)
    for wrong, said in (
        (x[0], r"x is of shape \(1, 8\)"),
        (x[..., :4], r"x is of shape \(2, 1, 4\)"),
        (x[:, :0], "with N of 1 or more"),
        (x.double(), "x is torch.float64 and the parameters are torch.float32"),
        (None, "x is of type NoneType"),
    ):
        with refused(f"mla: .*{said}"):
            layer.step(wrong, state)
    with refused("mla: state is of type NoneType; a LatentState is needed"):
        layer.step(x, None)


def test_a_state_may_grow_where_it_begins_with_no_tokens_and_may_nest():
    class Growing(attention_class("linear_unnormalised")):
        def init_state(self, batch_size, *, dtype, device):
            nothing = torch.zeros(batch_size, H, 0, D, dtype=dtype, device=device)
            return 0, (nothing, nothing)

        def step(self, q, k, v, state):
            keys, values = (torch.cat(pair, 2) for pair in zip(state[1], (k, v), strict=True))
            return q @ keys.mT @ values, (state[0] + 1, (keys, values))

    core = Growing(Geometry(num_heads=H, head_dim=D, seq_len=N, causal=True))
    _, state = core.step(*TOKENS, empty(core))
    out, (count, _) = core.step(*TOKENS, state)
    assert count == 2 and out.shape == TOKENS[0].shape
    wrong = (0, (torch.zeros(1, H, 5, D), torch.zeros(B, H, 5, D)))
    with refused(
        rf"linear_unnormalised: state.1.0 is .*\(1, {H}, 5, {D}\) .* \({B}, {H}, 0, {D}\)"
    ):
        core.step(*TOKENS, wrong)


def test_a_child_may_hand_a_part_of_its_state_to_its_parent():
    class Counting(attention_class("linear_unnormalised")):  # type: ignore[misc]
        def init_state(self, batch_size, *, dtype, device):
            return super().init_state(batch_size, dtype=dtype, device=device), 0

        def step(self, q, k, v, state):
            out, inner = super().step(q, k, v, state[0])
            return out, (inner, state[1] + 1)

    core = Counting(Geometry(num_heads=H, head_dim=D, seq_len=N, causal=True))
    own = build("linear_unnormalised")
    out, (inner, count) = core.step(*TOKENS, empty(core))
    torch.testing.assert_close(out, own.step(*TOKENS, empty(own))[0])
    assert count == 1
    with refused("linear_unnormalised: state is of type KernelState; a tuple is needed"):
        core.step(*TOKENS, inner)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in RECURRENT if name != "log_linear"])
def test_a_graph_of_decoding_serves_a_cache_of_any_length(name):
    """One for the first token and at most two more: a compiler takes the first length as fixed.

    log_linear reads blocks by the bits of a token's place, so that each place is a graph.
    """
    graphs = []

    def keep(graph, _):
        graphs.append(graph)
        return graph.forward

    core = build(name, seq_len=16, head_dim=8).eval()
    torch.compiler.reset()
    step = torch.compile(core.step, backend=keep, fullgraph=True)
    state, eager = empty(core), empty(core)
    with torch.no_grad():
        for q, k, v in zip(*(x.split(1, 2) for x in torch.randn(3, B, H, 12, 8)), strict=True):
            out, state = step(q, k, v, state)
            expected, eager = core.step(q, k, v, eager)
            torch.testing.assert_close(out, expected)
    torch.compiler.reset()
    assert len(graphs) <= 3
