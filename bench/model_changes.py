"""Models changed in one thing, tried where a printed size is not that of the model."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain, combinations
from typing import Any

from torch import nn

from attentions import build_attention
from attentions.mechanisms.polaformer import PolaformerLayer
from attentions.models import build_model
from attentions.models.counting import ModelCounts, count_model
from attentions.models.nalaformer import SIZES, Sizes
from attentions.models.pvt import PyramidTransformer
from bench.model_arithmetic import Variant, count_variant

_IMAGE_SIZE = 224
_STAGES = (1, 2, 3, 4)
_LINEAR = (1, 2)
_MOST_BLOCKS = 24
_MOST_CHANNELS = 768
_REDUCTIONS = (8, 4, 2, 1)
"""Of the grid of PVT's keys, stage by stage; FLatten's constructor has them as its default."""


@dataclass(frozen=True, kw_only=True)
class Change:
    """A model that differs in one thing from the one that a size is printed of.

    Attributes:
        what: the difference, as a reader should see it.
        count: what it costs.
    """

    what: str
    count: Callable[[], ModelCounts]


def nalaformer_changes(size: str) -> tuple[Change, ...]:
    """Other widths, depths, ratios, head, softmax stages and images of a size of NaLaFormer."""
    return tuple(
        Change(what=what, count=partial(count_variant, variant))
        for what, variant in chain(_other_sizes(SIZES[size]), _other_builds(SIZES[size]))
    )


def _other_sizes(sizes: Sizes) -> Iterator[tuple[str, Variant]]:
    head_dim = sizes.widths[-1] // sizes.heads[-1]
    for index, (width, depth) in enumerate(zip(sizes.widths, sizes.depths, strict=True)):
        stage = index + 1
        for channels in range(head_dim, _MOST_CHANNELS + 1, head_dim):
            if channels != width:
                widths = _with(sizes.widths, index, channels)
                heads = _with(sizes.heads, index, channels // head_dim)
                changed = replace(sizes, widths=widths, heads=heads)
                yield f"{channels} channels in stage {stage}", Variant(sizes=changed)
        for blocks in range(1, _MOST_BLOCKS + 1):
            if blocks != depth:
                changed = replace(sizes, depths=_with(sizes.depths, index, blocks))
                yield f"{blocks} blocks in stage {stage}", Variant(sizes=changed)
    for doubled in range(2, 17):
        if doubled / 2 != sizes.mlp_ratio:
            changed = replace(sizes, mlp_ratio=doubled / 2)
            yield f"mlp_ratio {doubled / 2:g}", Variant(sizes=changed)


def _other_builds(sizes: Sizes) -> Iterator[tuple[str, Variant]]:
    for width in range(128, 4097, 128):
        if width != Variant(sizes=sizes).head_width:
            yield f"a head of {width} channels", Variant(sizes=sizes, head_width=width)
    for pixels in range(160, 513, 32):
        if pixels != _IMAGE_SIZE:
            yield f"{pixels} pixels a side", Variant(sizes=sizes, image_size=pixels)
    for number in range(len(_STAGES) + 1):
        for linear in combinations(_STAGES, number):
            if linear != _LINEAR:
                named = ", ".join(map(str, linear)) or "none"
                yield f"NaLa in stages {named}", Variant(sizes=sizes, linear_stages=linear)


def _with(values: tuple[int, int, int, int], index: int, value: int) -> tuple[int, int, int, int]:
    changed = list(values)
    changed[index] = value
    first, second, third, fourth = changed
    return first, second, third, fourth


def pola_pvt_changes(name: str) -> tuple[Change, ...]:
    """Other convolutions, projections, softmax stages and keys of a size of Pola-PVT."""
    return tuple(
        Change(what=what, count=partial(count_model, build, _IMAGE_SIZE))
        for what, build in _pola_pvts(name)
    )


def _pola_pvts(name: str) -> Iterator[tuple[str, Callable[[], nn.Module]]]:
    def with_layer(**hyperparameters: Any) -> Callable[[], nn.Module]:
        return partial(build_model, name, "polaformer_layer", **hyperparameters)

    for width in (3, 7, 9):
        yield f"depthwise kernels of {width}x{width}", with_layer(kernel_size=width)
    yield "no bias in q, g, k and v", with_layer(qkv_bias=False)
    for stage in _STAGES:
        others = tuple(other for other in _STAGES if other != stage)
        yield f"PVT's softmax in stage {stage}", with_layer(stages=others)
    yield "no depthwise convolution", lambda: _without_convolution(build_model(name))
    yield "keys of PVT's shrunken grids", lambda: _with_fewer_keys(build_model(name))


def _without_convolution(model: nn.Module) -> nn.Module:
    for module in model.modules():
        if isinstance(module, PolaformerLayer):
            module.dwc = nn.Identity()  # type: ignore[assignment]
    return model


def _with_fewer_keys(model: nn.Module) -> nn.Module:
    assert isinstance(model, PyramidTransformer)
    for stage, ratio in zip(model.stages, _REDUCTIONS, strict=True):
        for block in stage.blocks:  # type: ignore[union-attr]
            geometry = block.mixer.geometry
            block.mixer = build_attention("polaformer_layer", geometry, sr_ratio=ratio)
    return model
