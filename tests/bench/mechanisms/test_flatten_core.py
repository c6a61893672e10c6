"""FLatten's layer without its projections is that layer, and nothing else."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from attentions import CallShape, Geometry, build_attention

GEOMETRY = Geometry(num_heads=2, head_dim=8, seq_len=36)
SHAPE = CallShape(
    batch_size=3,
    num_heads=2,
    query_len=36,
    key_len=36,
    head_dim=8,
    value_dim=8,
    causal=False,
)


@pytest.fixture
def build() -> Any:
    """The class; imported by each test, for its module registers it."""
    from bench.mechanisms.flatten_core import FlattenLayerCore

    return FlattenLayerCore


def inputs() -> list[Tensor]:
    torch.manual_seed(0)
    return [torch.randn(3, 36, 2, 8).transpose(1, 2) for _ in range(3)]


@pytest.mark.parametrize("implementation", ["auto", "plain", "official"])
def test_with_projections_that_change_nothing_the_layer_gives_the_same(
    implementation: str, build: Any
) -> None:
    core = build(GEOMETRY, implementation=implementation)
    layer = build_attention("flatten_layer", GEOMETRY, implementation=implementation)
    layer.load_state_dict({n: p.clone() for n, p in core.layer.state_dict().items()}, strict=False)
    eye = torch.eye(16)
    with torch.no_grad():
        for projection in (layer.q, layer.proj):
            assert isinstance(projection, nn.Linear)
            projection.weight.copy_(eye)
            projection.bias.zero_()
        layer.kv.weight.copy_(torch.cat([eye, eye]))
        layer.kv.bias.zero_()
        layer.positional_encoding.zero_()
    q, _, _ = inputs()
    tokens = q.transpose(1, 2).flatten(2)
    expected = layer(tokens)
    out = core(q, q, q).transpose(1, 2).flatten(2)
    torch.testing.assert_close(out, expected)


def test_both_forms_agree_and_both_have_gradients(build: Any) -> None:
    ours, official = (build(GEOMETRY, implementation=i) for i in ("auto", "official"))
    official.load_state_dict(ours.state_dict())
    q, k, v = (x.requires_grad_() for x in inputs())
    torch.testing.assert_close(ours(q, k, v), official(q, k, v))
    grads = torch.autograd.grad(ours(q, k, v).sum(), [q, k, v, *ours.parameters()])
    assert all(grad.isfinite().all() for grad in grads), "no parameter is left without a use"


def test_the_projections_are_neither_held_nor_counted(build: Any) -> None:
    core = build(GEOMETRY)
    names = {name for name, _ in core.named_parameters()}
    assert names == {"layer.scale", "layer.dwc.weight", "layer.dwc.bias"}
    layer = build_attention("flatten_layer", GEOMETRY)
    projections = 4 * 2 * 16 * 16 * SHAPE.batch_size * 36
    assert core.flops(SHAPE) == layer.flops(SHAPE) - projections
