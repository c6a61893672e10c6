"""Bad input is a ValueError that names the argument, what was given and what is allowed.

At construction where it can be known then, else at the call; for every mechanism that it concerns.
"""

from __future__ import annotations

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
)

NAMES = [n for n in attention_names() if not attention_class(n).capabilities.requires]
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
    with pytest.raises(ValueError, match=r"mlla: .*\b6\b.*multiple of 4"):
        build_attention("mlla", geometry("mlla", num_heads=1, head_dim=6))


@pytest.mark.parametrize("grid", [(3, 5), (4, 5), (16, 2)])
def test_a_grid_that_the_tokens_do_not_fill_is_refused_by_the_geometry(
    grid: tuple[int, int],
) -> None:
    with pytest.raises(ValueError, match=r"grid is \d+x\d+; .*product is seq_len, 16"):
        Geometry(num_heads=1, head_dim=4, seq_len=16, grid=grid)


@pytest.mark.parametrize("name", [n for n in NAMES if CLAIMS[n].needs_grid])
def test_a_call_that_does_not_fill_the_grid_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name}: 15 tokens were given; its grid of 4x4 needs 16"):
        call(build(name), 15)


@pytest.mark.parametrize(
    ("name", "argument"),
    [
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
    ],
)
@pytest.mark.parametrize("count", [0, -1, 1.5, True])
def test_a_count_below_one_is_refused_at_construction(
    name: str, argument: str, count: object
) -> None:
    said = rf"{by(name)}: {argument} is {re.escape(repr(count))}[;,]"
    with pytest.raises(ValueError, match=said):
        build(name, **{argument: count})


@pytest.mark.parametrize("name", ["linformer", "linformer_layer"])
def test_a_sequence_beyond_the_greatest_length_is_refused(name: str) -> None:
    module = build(name)
    assert call(module, N - 3).shape[-2] == N - 3
    with pytest.raises(ValueError, match=rf"{by(name)}: .*{N + 1}.*{N}"):
        call(module, N + 1)


@pytest.mark.parametrize("tokens", [13, 15, 16])
def test_landmarks_that_do_not_divide_the_length_are_allowed_and_never_padded(tokens: int) -> None:
    module = build("nystromformer", num_landmarks=4, pinv_iters=20)
    q, k, _ = torch.randn(3, 1, H, tokens, D)
    # Made-up keys would take weight from the real ones, and ones would not come back as ones.
    ones = torch.ones(1, H, tokens, D)
    with torch.no_grad():
        torch.testing.assert_close(module(q, k, ones), ones, atol=1e-3, rtol=0)


@pytest.mark.parametrize(("name", "gate"), CASES)
@pytest.mark.parametrize("shape", [(1, H, N - 1), (1, H), (1, H + 1, N), (1, N, H)])
def test_a_gate_of_another_shape_is_refused(name: str, gate: str, shape: tuple[int, ...]) -> None:
    with pytest.raises(
        ValueError, match=rf"{name}: {gate} is .*{re.escape(str(shape))}; a .*needed"
    ):
        call(build(name), **{gate: torch.zeros(shape)})


@pytest.mark.parametrize(("name", "gate"), CASES)
def test_a_gate_of_whole_numbers_is_refused(name: str, gate: str) -> None:
    with pytest.raises(ValueError, match=f"{name}: {gate} is torch.int64"):
        call(build(name), **{gate: torch.zeros(1, H, N, dtype=torch.int64)})


@pytest.mark.parametrize(
    ("name", "argument"),
    [
        (name, argument)
        for name in NAMES
        for kind, argument in (("padding", "key_mask"), ("dense", "mask"))
        if kind not in CLAIMS[name].masks
    ],
)
def test_a_mask_is_refused_by_a_mechanism_that_does_not_take_it(name: str, argument: str) -> None:
    refusal = f"{name}: {argument} was given; it takes no such argument"
    with pytest.raises(ValueError, match=refusal):
        call(build(name), **{argument: torch.ones(1, N, dtype=torch.bool)})


@pytest.mark.parametrize("name", [n for n in NAMES if "padding" in CLAIMS[n].masks])
@pytest.mark.parametrize("wrong", ["shape", "dtype"])
def test_a_padding_mask_of_another_shape_or_dtype_is_refused(name: str, wrong: str) -> None:
    sizes = (1, N - 1) if wrong == "shape" else (1, N)
    dtype = torch.bool if wrong == "shape" else torch.float32
    with pytest.raises(ValueError, match=rf"{name}: key_mask is .*; a bool tensor of shape"):
        call(build(name), key_mask=torch.ones(sizes, dtype=dtype))


@pytest.mark.parametrize("name", [n for n in NAMES if not CLAIMS[n].causal])
def test_a_causal_form_that_there_is_not_is_refused_at_construction(name: str) -> None:
    shape = Geometry(num_heads=H, head_dim=D, seq_len=N, causal=True)
    agents = {"num_agents": 4} if name.startswith("agent") else {}
    with pytest.raises(ValueError, match=f"{name} has no causal form; build it with causal=False"):
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
