"""Bad input is a ValueError that names the argument, what was given and what is allowed.

At construction where it can be known then, else at the call; for every mechanism that it concerns,
in a loop: what was expected names the mechanism.
"""

from __future__ import annotations

import math
import re

import pytest
import torch

from attentions import (
    Attention,
    AttentionLayer,
    Geometry,
    attention_class,
    attention_names,
    build_attention,
    build_layer,
)
from attentions.capabilities import PUBLISHED
from tests.refusals import refused

NAMES = [
    n
    for n in attention_names()
    if not attention_class(n).capabilities.requires and attention_class(n).family != PUBLISHED
]
CLAIMS = {name: attention_class(name).capabilities for name in NAMES}
N, H, D = 16, 2, 8
CASES = [(name, gate) for name in NAMES for gate in CLAIMS[name].gates]


def geometry(name: str, **changes: object) -> Geometry:
    sizes = {"num_heads": H, "head_dim": D, "seq_len": N} | changes
    return Geometry(causal=not CLAIMS[name].bidirectional, **sizes)  # type: ignore[arg-type]


def build(name: str, **settings: object) -> Attention | AttentionLayer:
    agents = {"num_agents": 4} if name.startswith("agent") else {}
    return build_attention(name, geometry(name), **agents | settings)


def by(name: str) -> str:
    """Who refuses: a layer, or the core in it."""
    return f"(?:{name}|{name.removesuffix('_layer')})"


def call(module: Attention | AttentionLayer, tokens: int = N, **keywords: object) -> torch.Tensor:
    with torch.no_grad():
        if isinstance(module, AttentionLayer):
            return module(torch.randn(1, tokens, H * D), **keywords)
        return module(*torch.randn(3, 1, H, tokens, D), **keywords)


@pytest.mark.parametrize("name", ["nala", "nala_layer", "nala_vanilla", "polaformer_pp"])
def test_a_head_size_that_cannot_be_rotated_is_refused_at_construction(name: str) -> None:
    rope = {"rope": True} if name != "polaformer_pp" else {}
    head_dim = 6 if name != "polaformer_pp" else 7
    with pytest.raises(ValueError, match=f"{by(name)}: .*head_dim.* {head_dim}") as caught:
        build_attention(name, geometry(name, head_dim=head_dim), **rope)
    assert re.search("multiple of|even", str(caught.value))


def test_channels_that_mlla_cannot_rotate_are_refused_at_construction() -> None:
    with refused(r"mlla: .*\b6\b.*multiple of 4"):
        build_attention("mlla", geometry("mlla", num_heads=1, head_dim=6))


def test_a_call_that_does_not_fill_the_grid_is_refused() -> None:
    for name in [n for n in NAMES if CLAIMS[n].needs_grid]:
        with refused(f"{name}: 15 tokens were given; its grid of 4x4 needs 16"):
            call(build(name), 15)


def test_a_count_below_one_is_refused_at_construction() -> None:
    for name, argument in [
        ("agent", "num_agents"),
        ("agent_layer", "num_agents"),
        ("block_sparse", "block_size"),
        ("block_sparse", "num_window_blocks"),
        ("dpfp", "nu"),
        ("efficient_layer", "key_channels"),
        ("efficient_layer", "value_channels"),
        ("gla_layer", "gate_rank"),
        ("linformer", "projected_len"),
        ("linformer_layer", "projected_len"),
        ("mamba2_ssd_layer", "num_groups"),
        ("mla", "kv_rank"),
        ("mla", "query_rank"),
        ("nystromformer", "num_landmarks"),
        ("nystromformer", "pinv_iters"),
        ("performer", "num_features"),
        ("reformer", "num_rounds"),
        ("reformer", "chunk_size"),
        ("reformer", "num_buckets"),
        ("rfa", "num_features"),
        ("rfa_gated", "num_features"),
        ("sigmoid", "chunk_size"),
        ("softmax_chunked", "chunk_size"),
        ("topk", "k"),
        ("topk", "chunk_size"),
    ]:
        for count in [0, -1, 1.5, True]:
            said = rf"{by(name)}: {argument} is {re.escape(repr(count))}[;,]"
            with refused(said):
                build(name, **{argument: count})


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


def test_a_padding_mask_of_another_shape_or_dtype_is_refused() -> None:
    for name in [n for n in NAMES if "padding" in CLAIMS[n].masks]:
        for wrong in ["shape", "dtype"]:
            sizes = (1, N - 1) if wrong == "shape" else (1, N)
            dtype = torch.bool if wrong == "shape" else torch.float32
            with refused(rf"{name}: key_mask is .*; a bool tensor of shape"):
                call(build(name), key_mask=torch.ones(sizes, dtype=dtype))


def test_a_causal_form_that_there_is_not_is_refused_at_construction() -> None:
    for name in [n for n in NAMES if not CLAIMS[n].causal]:
        shape = Geometry(num_heads=H, head_dim=D, seq_len=N, causal=True)
        agents = {"num_agents": 4} if name.startswith("agent") else {}
        with refused(f"{name} has no causal form; build it with causal=False"):
            build_attention(name, shape, **agents)


@pytest.mark.parametrize(
    "name", [n for n in attention_names() if attention_class(n).capabilities.requires]
)
def test_a_missing_package_is_named_with_the_extra_that_brings_it(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import importlib

    can = attention_class(name).capabilities
    real = importlib.import_module

    def nowhere(module: str, *rest: object) -> object:
        if module.partition(".")[0] in can.requires:
            raise ModuleNotFoundError(f"No module named {module!r}", name=module.partition(".")[0])
        return real(module, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(importlib, "import_module", nowhere)
    shape = Geometry(num_heads=H, head_dim=D, seq_len=N, causal=not can.bidirectional)
    with pytest.raises(ImportError, match=rf"{name} .*{can.requires[0]}.*attnbench\["):
        build_attention(name, shape)


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


def test_causality_is_yes_or_no() -> None:
    for causal in [1, "false", None]:
        with refused(r"Geometry.causal is .*; True or False is needed"):
            Geometry(num_heads=1, head_dim=4, seq_len=4, causal=causal)  # type: ignore[arg-type]


def test_a_grid_that_is_no_pair_of_sizes_is_refused() -> None:
    for grid in [4, "2x2", (2, 2.0), (True, 4), 2.5]:
        with refused(r"Geometry.grid is .*; two whole numbers"):
            Geometry(num_heads=1, head_dim=4, seq_len=4, grid=grid)  # type: ignore[arg-type]


def test_a_geometry_that_no_tensor_can_have_is_refused_at_once() -> None:
    for size in ["num_heads", "head_dim", "seq_len", "value_dim", "num_kv_heads"]:
        for value in [2**31, 10**18]:
            sizes = {"num_heads": 2, "head_dim": 4, "seq_len": 4} | {size: value}
            with refused(rf"Geometry.{size} is {value}; less than 2\^31 is needed"):
                Geometry(**sizes)  # type: ignore[arg-type]


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


# (mechanism, hyperparameter, value, what the message says after it)
SETTINGS = [
    ("agent", "num_agents", 2, ""),  # fills no square
    ("agent_layer", "bias", 1, "; True or False"),
    ("agent_layer", "class_token", 1, "; True or False"),
    ("agent_layer", "qkv_bias", 1, "; True or False"),
    ("block_sparse", "num_window_blocks", 2, "; an odd number"),
    ("block_sparse", "num_global_blocks", -1, ""),
    ("block_sparse", "num_random_blocks", 1.5, ""),
    ("block_sparse", "seed", None, ""),
    ("cosformer", "horizon", N - 1, f"; .* {N} or more"),
    ("cosformer", "horizon", 20.0, ""),
    ("cosformer", "eps", math.nan, ""),
    ("deltanet", "normalise_keys", "yes", "; True or False"),
    ("deltanet", "normalise_queries", 1, "; True or False"),
    ("deltanet", "scale", 0, "; a number above 0"),
    ("dpfp", "nu", 2 * D, ""),  # neighbours that repeat
    ("dpfp", "eps", "1", ""),
    ("efficient_layer", "key_channels", 7, ""),
    ("efficient_layer", "value_channels", 7, ""),
    ("efficient_layer", "residual", 1, "; True or False"),
    ("flatten", "focusing_factor", 0.5, "; a number of 1 or more"),
    ("flatten", "focusing_factor", "3", ""),
    ("flatten", "norm_over", "heads", "; 'all_heads' or 'head' is needed"),
    ("flatten", "eps", 0.0, "; a number above 0"),
    ("flatten_layer", "focusing_factor", 0.5, "; a number of 1 or more"),
    ("flatten_layer", "sr_ratio", 3, "; a divisor of both sides of the 4x4 grid"),
    ("flatten_layer", "sr_ratio", 0, ""),
    ("flatten_layer", "kernel_size", 4, "; an odd number"),
    ("flatten_layer", "qkv_bias", 1, "; True or False"),
    ("gated_deltanet_layer", "conv_size", -1, "; a whole number of 0 or more"),
    ("gated_deltanet_layer", "output_gate", 1, "; True or False"),
    ("gla", "temperature", -1, "; a number above 0"),
    ("gla", "scale", -1, "; a number above 0"),
    ("gla_layer", "expand_k", 0.3, "; .* head_dim, 8, is whole"),
    ("gla_layer", "expand_k", 1e30, r"; .* is whole, and less than 2\^31"),
    ("gla_layer", "expand_k", 0, "; a number above 0"),
    ("gla_layer", "temperature", 0, "; a number above 0"),
    ("gla_layer", "norm", "group", "; 'rms' or 'layer'"),
    ("hedgehog", "bias", 1, "; True or False"),
    ("hedgehog", "tie_heads", 1, "; True or False"),
    ("hedgehog", "tie_qk", 1, "; True or False"),
    ("hedgehog", "normaliser", "both", "; 'separate' or 'joint' is needed"),
    ("hedgehog", "eps", "0", ""),
    ("hedgehog", "eps", 1e9, "; "),
    ("inline_layer", "qkv_bias", 0, "; True or False"),
    ("inline_layer", "class_token", 0, "; True or False"),
    ("lightning", "slopes", "even", "; 'alibi' or 'linear' is needed"),
    ("lightning", "slope_scale", -1, "; a number above 0 is needed"),
    *(
        ("linear", "eps", wrong, "; a number above 0 is needed")
        for wrong in (0, -1e-6, math.nan, math.inf, "1e-6", True, None)
    ),
    ("linformer_layer", "share_kv", "k", "; True or False"),
    ("linformer_layer", "values_are_keys", "k", "; True or False"),
    ("local_only", "kernel_size", 2, ""),
    ("local_only", "kernel_size", 5.0, ""),
    ("local_only", "kernel_size", 2**31 - 1, "; "),
    ("local_only", "dims", 3, "; 2 or 1 is needed"),
    ("mamba2_ssd_layer", "num_groups", 3, "; a divisor of num_heads, 2"),
    ("mamba2_ssd_layer", "conv_size", -1, "; a whole number of 0 or more"),
    ("mla", "rope_dim", 3, "; an even number"),
    ("mla", "rope_dim", 0, ""),
    ("mla", "rope", 1, ""),
    ("mla", "latent_norm", "rms", ""),
    ("mlla", "eps", 0, ""),
    ("mlla", "qk_bias", 1, "; True or False"),
    *(
        (name, argument, wrong, said)
        for name in ("nala", "nala_layer", "nala_cosine")
        for argument, wrong, said in (
            ("lam", 0, "; a number above 0"),
            ("tau", -0.5, ""),
            ("key_power", 0.5, "; a number of 1 or more"),
            ("key_power", 1e6, "; a number of 32 or less is needed"),
            ("eps", 0, ""),
        )
    ),
    ("nala", "rope", 1, "; True or False"),
    ("nala_cosine", "alpha", 0, "; a number above 0"),
    ("nala_vanilla", "rope", 1, ""),
    ("nystromformer", "pinv_init", "sample", ""),
    ("nystromformer", "conv_kernel_size", 0, ""),
    ("nystromformer", "conv_kernel_size", 32, ""),
    ("performer", "kernel", "exp", "; 'softmax' or 'relu' or 'relu_unprojected' is needed"),
    ("performer", "eps", 0, "; a number of 1e-18 or more"),
    ("performer", "eps", 1e9, "; a number of 1 or less is needed"),
    ("performer", "relu_eps", -1.0, ""),
    ("performer", "relu_eps", 1e9, "; "),
    ("performer", "ortho_scaling", 2, "; 0 or 1 is needed"),
    ("performer", "ortho_scaling", True, ""),
    ("performer", "redraw_interval", -1, "; a whole number of 0 or more"),
    ("performer", "projection_seed", -1, ""),
    ("polaformer", "alpha", -4, "; a number above 0"),
    ("polaformer", "eps", math.inf, "; a number above 0"),
    ("polaformer_layer", "alpha", "4", "; a number above 0"),
    ("polaformer_layer", "eps", True, "; a number above 0"),
    ("polaformer_layer", "kernel_size", 4, ""),
    ("polaformer_layer", "sr_ratio", 3, "; a divisor of both"),
    ("polaformer_pp", "eps", 0, ""),
    ("reformer", "num_buckets", 3, "; an even number"),
    ("reformer", "seed", -1, ""),
    ("reformer", "across_buckets", 1, ""),
    ("reformer", "count_duplicates", None, ""),
    ("retnet", "score_norm", "rows", "; 'none' or 'paper' is needed"),
    ("retnet", "scale", 0, "; a number above 0 is needed"),
    ("rfa", "normalise", "yes", ""),
    ("rfa", "projection", "sobol", ""),
    ("rfa", "tau", 0, ""),
    ("rfa", "tau", 1e-46, "; "),
    ("rfa", "eps", -0.1, ""),
    ("rfa", "eps", 1e-300, "; "),
    ("rfa", "projection_seed", -1, ""),
    *(("sigmoid", "bias", wrong, "") for wrong in ("-log N", math.nan, -math.inf, -1e3, True)),
    ("simple_gla", "temperature", -1, "; a number above 0"),
    ("simple_gla", "temperature", 5e-324, "; "),
    ("simple_gla", "scale", -1, "; a number above 0"),
    *(("sliding_window", "window", wrong, "") for wrong in (-1, 1.5, True, None)),
    ("softmax", "backend", "fast", "; .*'auto' or 'math' or 'flash'"),
    ("softmax", "backend", None, ""),
    ("softmax_flex", "compiled", 1, ""),
    ("taylor", "eps", 0, ""),
    ("taylor", "form", "fast", "; 'features' or 'explicit' is needed"),
    # Sizes that no tensor can have.
    *(
        (name, argument, 2**62, r"; less than 2\^31 is needed")
        for name, argument in (
            ("agent", "num_agents"),
            ("efficient_layer", "key_channels"),
            ("gated_deltanet_layer", "conv_size"),
            ("gla_layer", "gate_rank"),
            ("linformer", "projected_len"),
            ("mamba2_ssd_layer", "conv_size"),
            ("mla", "kv_rank"),
            ("mla", "rope_dim"),
            ("performer", "num_features"),
        )
    ),
]


def test_a_setting_out_of_range_is_refused_at_construction() -> None:
    for name, argument, value, allowed in SETTINGS:
        with refused(rf"{by(name)}: {argument} is {re.escape(repr(value))}{allowed}"):
            build(name, **{argument: value})


@pytest.mark.parametrize(
    ("name", "settings", "said"),
    [
        ("agent", {"class_token": True}, f"agent: seq_len is {N}; with class_token=True"),
        ("inline_layer", {"class_token": True}, f"seq_len is {N}; with class_token=True"),
        ("nala", {"lam": 1.0}, r"lam \* tau .* is 0.5; a number of 1 or more"),
        ("nala", {"lam": 100}, r"greatest power\) is 150.0; a number of 32 or less is needed"),
        (
            "performer",
            {"kernel": "relu_unprojected", "num_features": 7},
            f"num_features with kernel='relu_unprojected' is 7; {D} is needed",
        ),
    ],
)
def test_settings_that_do_not_go_together_are_refused(
    name: str, settings: dict[str, object], said: str
) -> None:
    with refused(said):
        build(name, **settings)


def test_reformer_looks_across_buckets_only_where_it_may_see_the_future() -> None:
    shape = Geometry(num_heads=H, head_dim=D, seq_len=N, causal=True)
    with refused("reformer: across_buckets is True; False is"):
        build_attention("reformer", shape, across_buckets=True)


def test_layers_that_keep_their_channels_need_values_as_wide_as_keys() -> None:
    for name in (
        *("efficient_layer", "flatten_layer", "mlla", "nala_layer", "nala_vanilla"),
        "polaformer_pp",
    ):
        with refused(rf"geometry\.value_dim is 3; {D} is needed"):
            build_attention(name, geometry(name, value_dim=3))


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
