"""A call with bad input is a ValueError that names the argument, what was given and is allowed.

Each mechanism is called with all that it concerns: what was expected names the mechanism.
"""

import re

import pytest
import torch

from attentions import (
    AttentionLayer,
    Geometry,
    build_attention,
)
from tests.attentions.small import CLAIMS, NAMES, D, H, N, build, by
from tests.refusals import refused

CORES = [n for n in NAMES if "core" in CLAIMS[n].scopes]
RECURRENT = [n for n in CORES if CLAIMS[n].recurrent]
MASKS = {"padding": "key_mask", "dense": "mask"}
B, M = 2, N


def heads(**changes):
    sizes = {"q": (B, H, N, D), "k": (B, H, M, D), "v": (B, H, M, D)} | changes
    return tuple(torch.randn(sizes[x]) for x in "qkv")


def call(module, tokens=N, **keywords):
    with torch.no_grad():
        if isinstance(module, AttentionLayer):
            return module(torch.randn(1, tokens, H * D), **keywords)
        return module(*torch.randn(3, 1, H, tokens, D), **keywords)


MISFITS = (
    *({"q": (H, N, D)}, {x: (H, N, D) for x in "qkv"}, {x: (1, B, H, N, D) for x in "qkv"}),
    # Another batch, or one head of values, is not broadcast.
    *({"k": (1, H, M, D)}, {"v": (1, H, M, D)}, {"v": (B, 1, M, D)}),
    # Other heads and widths than it was built for.
    *({x: (B, 1, N, D) for x in "qkv"}, {x: (B, 2 * H, N, D) for x in "qkv"}),
    *({"k": (B, H, M, 1)}, {x: (B, H, N, D // 2) for x in "qkv"}, {"v": (B, H, M, D // 2)}),
    # Fewer values than keys, and no tokens at all.
    *({"v": (B, H, 1, D)}, {"v": (B, H, M - 1, D)}),
    *({x: (B, H, 0, D) for x in "qkv"}, {"k": (B, H, 0, D), "v": (B, H, 0, D)}),
)


def wrong_heads():
    """Words after the mechanism's name, and arguments of a call."""
    needed = re.escape(f"(B, {H}, N, {D}), (B, {H}, M, {D}) and (B, {H}, M, {D}) with N and M of 1")
    for changes in MISFITS:
        q, k, v = heads(**changes)
        said = re.escape(f"q is of shape {tuple(q.shape)}, k of {tuple(k.shape)} and v of ")
        yield f"{said}.*{needed}", (q, k, v), {}
        yield said, (q,), {"v": v, "k": k}
    for dtype in [torch.int64, torch.bool, torch.complex64, torch.float8_e5m2]:
        yield f"q is {dtype}; it takes float32, bf", tuple(x.to(dtype) for x in heads()), {}
    q, k, v = heads()
    said = "q is torch.float32, k is torch.float32, v is torch.bfloat16; one dtype for all"
    yield said, (q, k, v.bfloat16()), {}
    for wrong in [None, [[1.0]], "q"]:
        yield "k is of type .*; a tensor is needed", (q, wrong, v), {}


def wrong_tokens():
    for sizes in [(N, H * D), (1, 1, N, H * D), (B, N, D), (B, 0, H * D)]:
        said = re.escape(f"x is of shape {sizes}; (B, N, {H * D}) with N of 1 or more")
        yield said, (torch.randn(sizes),), {}
    said = "x is torch.float64 and the parameters are torch.float32; one dtype is needed"
    yield said, (torch.randn(B, N, H * D, dtype=torch.float64),), {}
    for wrong in [None, [[1.0]], "q"]:
        yield "x is of type .*; a tensor is needed", (wrong,), {}


def wrong_keywords(name):
    """Words about masks and gates, and these."""
    can = CLAIMS[name]
    for gate in getattr(build(name), "gates", {}) if name in CORES else ():
        for shape in [(1, H, N - 1), (1, H), (1, H + 1, N), (1, N, H)]:
            said = rf"{gate} is .*{re.escape(str(shape))}; a .*needed"
            yield said, {gate: torch.zeros(shape)}
        yield f"{gate} is torch.int64", {gate: torch.zeros(1, H, N, dtype=torch.int64)}
        for wrong in [0.5, [[0.5]], "x"]:
            yield f"{gate} is of type .*; a floating-point tensor", {gate: wrong}
    for kind, argument in MASKS.items():
        sizes = (1, N) if kind == "padding" else (N, N)
        mask = torch.ones(sizes, dtype=torch.bool)
        if kind not in can.masks:
            yield f"{argument} was given; it takes no such argument", {argument: mask}
            continue
        for wrong in [True, "x", [[True] * N]]:
            yield f"{argument} is of type .*; a bool tensor", {argument: wrong}
        if name in CORES:
            yield f"{argument} is on meta and q on cpu; one", {argument: mask.to("meta")}
    for gate in can.gates:
        elsewhere = torch.zeros(1, H, N, device="meta")
        yield f"{gate} is on meta and q on cpu; one", {gate: elsewhere}


@pytest.mark.parametrize("name", NAMES)
def test_what_does_not_fit_is_refused_and_never_broadcast(name):
    module = build(name)
    for said, given, keywords in wrong_heads() if name in CORES else wrong_tokens():
        with refused(f"{name}: {said}"):
            module(*given, **keywords)
    for said, keywords in wrong_keywords(name):
        with refused(f"{name}: {said}"):
            call(module, **keywords)


@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_an_empty_batch_and_what_autocast_makes_alike_are_no_mistakes(name):
    module = build(name)
    if isinstance(module, AttentionLayer):
        assert module(torch.randn(0, N, H * D)).shape == (0, N, H * D)
        wide = torch.randn(B, N, H * D, dtype=torch.float64)
        assert build(name).double()(wide).dtype == torch.float64
        return
    assert module(*(x[:0] for x in heads())).shape == (0, H, N, D)
    with torch.autocast("cpu", torch.bfloat16):
        assert module(*(x.bfloat16() for x in heads())).shape == (B, H, N, D)
    if "dense" in CLAIMS[name].masks:
        tensors = heads()
        for keep in (torch.tensor(True), torch.arange(N) < N // 2):
            whole = module(*tensors, mask=keep.expand(N, N))
            torch.testing.assert_close(module(*tensors, mask=keep), whole)


@pytest.mark.parametrize("name", ["linformer", "linformer_layer"])
def test_a_sequence_beyond_the_greatest_length_is_refused(name):
    module = build(name)
    assert call(module, N - 3).shape[-2] == N - 3
    with refused(rf"{by(name)}: .*{N + 1}.*{N}"):
        call(module, N + 1)


def test_tensors_elsewhere_or_without_strides_are_refused():
    q, k, v = heads()
    with refused("softmax: q is on cpu, k on meta and v on meta; one dev"):
        build("softmax")(q, k.to("meta"), v.to("meta"))
    for argument in "qkv":
        given = dict(zip("qkv", heads(), strict=True))
        given[argument] = given[argument].to_sparse()
        with refused(r"softmax: q is of layout .*torch.strided is needed"):
            build("softmax")(**given)


STEPS = (
    *({x: (H, 1, D) for x in "qkv"}, {x: (1, H, 1, D) for x in "qkv"}),
    *({x: (B, 1, 1, D) for x in "qkv"}, {x: (B, H, 1, D // 2) for x in "qkv"}),
    *({"k": (B, 1, 1, D)}, {"v": (1, H, 1, D)}, {"v": (B, H, 2, D)}),
    {"k": (B, H, 2, D), "v": (B, H, 2, D)},  # as many keys as queries
)
"""Sizes that do not fit a core, or a state of two sequences."""


@pytest.mark.parametrize("name", RECURRENT)
def test_a_step_refuses_tokens_that_do_not_fit_it_or_its_state(name):
    core = build_attention(name, Geometry(num_heads=H, head_dim=D, seq_len=N, causal=True))
    for changes in STEPS:
        state = core.init_state(B, dtype=torch.float32, device=torch.device("cpu"))
        tokens = {x: torch.randn(changes.get(x, (B, H, 1, D))) for x in "qkv"}
        with refused(f"{name}: "):
            core.step(**tokens, state=state)
