"""A call with bad input is a ValueError that names the argument, what was given and is allowed.

For every mechanism that it concerns, in a loop: what was expected names the mechanism.
"""

from __future__ import annotations

import re

import pytest
import torch

from attentions import (
    Attention,
    AttentionLayer,
    Geometry,
    build_attention,
    build_layer,
)
from tests.attentions.small import CLAIMS, NAMES, D, H, N, build, by, geometry
from tests.refusals import refused

CASES = [(name, gate) for name in NAMES for gate in getattr(build(name), "gates", {})]


def call(module: Attention | AttentionLayer, tokens: int = N, **keywords: object) -> torch.Tensor:
    with torch.no_grad():
        if isinstance(module, AttentionLayer):
            return module(torch.randn(1, tokens, H * D), **keywords)
        return module(*torch.randn(3, 1, H, tokens, D), **keywords)


@pytest.mark.parametrize("name", ["linformer", "linformer_layer"])
def test_a_sequence_beyond_the_greatest_length_is_refused(name: str) -> None:
    module = build(name)
    assert call(module, N - 3).shape[-2] == N - 3
    with refused(rf"{by(name)}: .*{N + 1}.*{N}"):
        call(module, N + 1)


@pytest.mark.parametrize("tokens", [13, 15, 16])
def test_landmarks_that_do_not_divide_the_length_are_allowed_and_never_padded(tokens: int) -> None:
    module = build("nystromformer", num_landmarks=4, pinv_iters=20)
    q, k, _ = torch.randn(3, 1, H, tokens, D)
    # Made-up keys would take weight from the real ones, and ones would not come back as ones.
    ones = torch.ones(1, H, tokens, D)
    with torch.no_grad():
        torch.testing.assert_close(module(q, k, ones), ones, atol=1e-3, rtol=0)


def test_a_gate_of_another_shape_is_refused() -> None:
    for name, gate in CASES:
        for shape in [(1, H, N - 1), (1, H), (1, H + 1, N), (1, N, H)]:
            with refused(rf"{name}: {gate} is .*{re.escape(str(shape))}; a .*needed"):
                call(build(name), **{gate: torch.zeros(shape)})


def test_a_gate_of_whole_numbers_is_refused() -> None:
    for name, gate in CASES:
        with refused(f"{name}: {gate} is torch.int64"):
            call(build(name), **{gate: torch.zeros(1, H, N, dtype=torch.int64)})


def test_a_mask_is_refused_by_a_mechanism_that_does_not_take_it() -> None:
    for name, argument in [
        (name, argument)
        for name in NAMES
        for kind, argument in (("padding", "key_mask"), ("dense", "mask"))
        if kind not in CLAIMS[name].masks
    ]:
        refusal = f"{name}: {argument} was given; it takes no such argument"
        with refused(refusal):
            call(build(name), **{argument: torch.ones(1, N, dtype=torch.bool)})


CORES = [n for n in NAMES if "core" in CLAIMS[n].scopes]
LAYERS = [n for n in NAMES if n not in CORES]
B, M = 2, N


def heads(**changes: tuple[int, ...]) -> tuple[torch.Tensor, ...]:
    sizes = {"q": (B, H, N, D), "k": (B, H, M, D), "v": (B, H, M, D)} | changes
    return tuple(torch.randn(sizes[x]) for x in "qkv")


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"q": (H, N, D)}, id="a query without its batch"),
        pytest.param({x: (H, N, D) for x in "qkv"}, id="no batch"),
        pytest.param({x: (1, B, H, N, D) for x in "qkv"}, id="one dimension more"),
        pytest.param({"k": (1, H, M, D)}, id="another batch of keys"),
        pytest.param({"v": (1, H, M, D)}, id="another batch of values"),
        pytest.param({"v": (B, 1, M, D)}, id="one head of values"),
        pytest.param({x: (B, 1, N, D) for x in "qkv"}, id="fewer heads than built for"),
        pytest.param({x: (B, 2 * H, N, D) for x in "qkv"}, id="more heads than built for"),
        pytest.param({"k": (B, H, M, 1)}, id="narrower keys"),
        pytest.param({x: (B, H, N, D // 2) for x in "qkv"}, id="narrower than built for"),
        pytest.param({"v": (B, H, M, D // 2)}, id="values narrower than built for"),
        pytest.param({"v": (B, H, 1, D)}, id="one value for all keys"),
        pytest.param({"v": (B, H, M - 1, D)}, id="a value less than keys"),
        pytest.param({x: (B, H, 0, D) for x in "qkv"}, id="no tokens"),
        pytest.param({"k": (B, H, 0, D), "v": (B, H, 0, D)}, id="no keys"),
    ],
)
def test_tensors_that_do_not_fit_are_refused_and_never_broadcast(
    changes: dict[str, tuple[int, ...]],
) -> None:
    for name in CORES:
        q, k, v = heads(**changes)
        said = re.escape(f"{name}: q is of shape {tuple(q.shape)}, k of {tuple(k.shape)} and v of ")
        needed = re.escape(
            f"(B, {H}, N, {D}), (B, {H}, M, {D}) and (B, {H}, M, {D}) with N and M of 1"
        )
        with refused(f"{said}.*{needed}"):
            build(name)(q, k, v)
        with refused(said):
            build(name)(q, v=v, k=k)


def test_tensors_of_another_kind_of_number_are_refused() -> None:
    for name in CORES:
        for dtype in [torch.int64, torch.bool, torch.complex64, torch.float8_e5m2]:
            q, k, v = (x.to(dtype) for x in heads())
            with refused(rf"{name}: q is {dtype}; it takes float32, bfloat16"):
                build(name)(q, k, v)


def test_dtypes_are_alike_except_under_autocast_which_makes_them_so() -> None:
    for name in CORES:
        q, k, v = heads()
        module = build(name)
        said = "q is torch.float32, k is torch.float32, v is torch.bfloat16; one dtype for all"
        with refused(f"{name}: {said}"):
            module(q, k, v.bfloat16())
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            assert module(q.bfloat16(), k.bfloat16(), v.bfloat16()).shape == v.shape


def test_what_is_no_tensor_is_refused() -> None:
    for name in NAMES:
        for wrong in [None, [[1.0]], "q"]:
            module = build(name)
            if isinstance(module, AttentionLayer):
                with refused(f"{name}: x is of type .*; a tensor is needed"):
                    module(wrong)
                continue
            q, _, v = heads()
            with refused(f"{name}: k is of type .*; a tensor is needed"):
                module(q, wrong, v)


def test_tokens_that_do_not_fit_a_layer_are_refused() -> None:
    for name in LAYERS:
        for sizes in [(N, H * D), (1, 1, N, H * D), (B, N, D), (B, 0, H * D)]:
            said = re.escape(f"{name}: x is of shape {sizes}; (B, N, {H * D}) with N of 1 or more")
            with refused(said):
                build(name)(torch.randn(sizes))


def test_tokens_of_another_dtype_than_the_parameters_are_refused() -> None:
    for name in LAYERS:
        x = torch.randn(B, N, H * D, dtype=torch.float64)
        said = "x is torch.float64 and the parameters are torch.float32; one dtype is needed"
        with refused(f"{name}: {said}"):
            build(name)(x)
        assert build(name).double()(x).dtype == torch.float64


def test_projections_around_a_core_refuse_tokens_as_layers_do() -> None:
    layer = build_layer("linear", geometry("linear"))
    with refused(r"linear: x is of shape \(2, 16, 8\); \(B, N, 16\)"):
        layer(torch.randn(B, N, D))
    with refused(r"x is torch.int64; it takes float32"):
        layer(torch.zeros(B, N, H * D, dtype=torch.int64))


def test_a_mask_that_is_no_tensor_is_refused() -> None:
    for name in [n for n in NAMES if CLAIMS[n].masks]:
        for wrong in [True, "x", [[True] * N]]:
            with refused(f"{name}: key_mask is of type .*; a bool tensor of shape"):
                call(build(name), key_mask=wrong)
            if "dense" in CLAIMS[name].masks:
                with refused(f"{name}: mask is of type .*; a bool tensor that"):
                    call(build(name), mask=wrong)


def test_a_dense_mask_of_fewer_dimensions_is_broadcast() -> None:
    for name in [n for n in NAMES if "dense" in CLAIMS[n].masks]:
        for sizes in [(), (N,)]:
            module, keep = build(name), torch.ones(sizes, dtype=torch.bool)
            if sizes:
                keep[N // 2 :] = False
            tensors = heads()
            with torch.no_grad():
                whole = module(*tensors, mask=keep.expand(N, N))
                torch.testing.assert_close(module(*tensors, mask=keep), whole)


def test_a_gate_that_is_no_tensor_is_refused() -> None:
    for name, gate in CASES:
        for wrong in [0.5, [[0.5]], "x"]:
            with refused(f"{name}: {gate} is of type .*; a floating-point tensor"):
                call(build(name), **{gate: wrong})


def test_tensors_on_several_devices_are_refused() -> None:
    q, k, v = heads()
    with refused("softmax: q is on cpu, k on meta and v on meta; one dev"):
        build("softmax")(q, k.to("meta"), v.to("meta"))


def test_an_empty_batch_is_no_mistake() -> None:
    for name in NAMES:
        module = build(name)
        with torch.no_grad():
            if isinstance(module, AttentionLayer):
                assert module(torch.randn(0, N, H * D)).shape == (0, N, H * D)
            else:
                assert module(*(x[:0] for x in heads())).shape == (0, H, N, D)


def test_masks_and_gates_on_another_device_are_refused() -> None:
    for name in CORES:
        can, module = CLAIMS[name], build(name)
        keywords = {gate: torch.zeros(1, H, N) for gate in can.gates}
        if "padding" in can.masks:
            keywords["key_mask"] = torch.ones(1, N, dtype=torch.bool)
        if "dense" in can.masks:
            keywords["mask"] = torch.ones(N, N, dtype=torch.bool)
        for argument, x in keywords.items():
            with refused(f"{name}: {argument} is on meta and q on cpu; one"):
                call(module, **{argument: x.to("meta")})


def test_dtypes_are_compared_where_there_is_no_autocast() -> None:
    q, k, v = (x.to("meta") for x in heads())
    with refused(r"softmax: q is .* v is torch.float64; one dtype"):
        build("softmax")(q, k, v.double())
    with refused(r"x is torch.float64 and the parameters are torch.float3"):
        build("mlla").to("meta")(torch.zeros(B, N, H * D, dtype=torch.float64, device="meta"))


def test_tensors_without_strides_are_refused() -> None:
    for argument in ["q", "k", "v"]:
        given = dict(zip("qkv", heads(), strict=True))
        given[argument] = given[argument].to_sparse()
        with refused(r"softmax: q is of layout .*torch.strided is needed"):
            build("softmax")(**given)


def test_with_rope_tokens_must_fill_the_grid() -> None:
    core = build("nala", rope=True)
    q, k, v = heads()
    with refused(r"nala: 16 queries and 5 keys .* rope=True"):
        core(q, k[:, :, :5], v[:, :, :5])
    with refused("nala: 10 tokens were given; its grid of 4x4 needs 16"):
        core(*(x[:, :, :10] for x in (q, k, v)))


RECURRENT = [n for n in CORES if CLAIMS[n].recurrent]


def core_and_state(name: str) -> tuple[Attention, object]:
    core = build_attention(name, Geometry(num_heads=H, head_dim=D, seq_len=N, causal=True))
    assert isinstance(core, Attention)
    return core, core.init_state(B, dtype=torch.float32, device=torch.device("cpu"))


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({x: (H, 1, D) for x in "qkv"}, id="no batch"),
        pytest.param({x: (1, H, 1, D) for x in "qkv"}, id="a smaller batch than the state's"),
        pytest.param({x: (B, 1, 1, D) for x in "qkv"}, id="fewer heads"),
        pytest.param({x: (B, H, 1, D // 2) for x in "qkv"}, id="narrower"),
        pytest.param({"k": (B, 1, 1, D)}, id="fewer heads of keys"),
        pytest.param({"v": (1, H, 1, D)}, id="another batch of values"),
        pytest.param({"v": (B, H, 2, D)}, id="more values than keys"),
    ],
)
def test_a_step_refuses_tokens_that_do_not_fit_it_or_its_state(
    changes: dict[str, tuple[int, ...]],
) -> None:
    for name in RECURRENT:
        core, state = core_and_state(name)
        tokens = {x: torch.randn(changes.get(x, (B, H, 1, D))) for x in "qkv"}
        with refused(f"{name}: "):
            core.step(**tokens, state=state)


def test_a_step_takes_as_many_keys_as_queries() -> None:
    for name in RECURRENT:
        core, state = core_and_state(name)
        q, k, v = (torch.randn(B, H, count, D) for count in (1, 2, 2))
        with refused(f"{name}: "):
            core.step(q, k, v, state)
