"""The size of a NaLaFormer by arithmetic: a variant takes microseconds, where building takes 0.2 s.

It gives what `count_model` gives for the model as released, and reaches sizes that nobody built.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from attentions.models.counting import ModelCounts
from attentions.models.nalaformer import Sizes

_LAYER_NORM, _BATCH_NORM = 5, 2
"""fvcore's prices per element, as in `attentions.models.counting`."""


@dataclass(frozen=True, kw_only=True)
class Variant:
    """A NaLaFormer that may never have been built.

    Attributes:
        sizes: of each stage.
        linear_stages: those with NaLa, from 1; the others have softmax.
        head_width: channels between the last stage and the classes.
        image_size: S, pixels along a side; a multiple of 32.
    """

    sizes: Sizes
    linear_stages: tuple[int, ...] = (1, 2)
    head_width: int = 1024
    image_size: int = 224


def count_variant(variant: Variant, num_classes: int = 1000) -> ModelCounts:
    """Count a variant, one image of it."""
    widths, side = variant.sizes.widths, variant.image_size // 4
    parts = [_stem(widths[0], variant.image_size)]
    for index, channels in enumerate(widths):
        if index > 0:
            side //= 2
            parts.append(_convolution(widths[index - 1], channels, 3, side))
            parts.append(_norm(channels, side**2, _BATCH_NORM))
        block = _block(variant, index, side**2)
        parts += [block] * variant.sizes.depths[index]
    parts.append(_linear(widths[-1], variant.head_width, side**2))
    parts.append(_norm(variant.head_width, side**2, _BATCH_NORM))
    parts.append(_linear(variant.head_width, num_classes, 1))
    return _sum(parts)


def _stem(channels: int, image_size: int) -> ModelCounts:
    half, parts = channels // 2, []
    for inward, outward, shrunk in ((3, half, 2), (half, half, 2), (half, half, 2)):
        parts.append(_convolution(inward, outward, 3, image_size // shrunk))
        parts.append(_norm(outward, (image_size // shrunk) ** 2, _BATCH_NORM))
    parts.append(_convolution(half, channels, 3, image_size // 4))
    parts.append(_norm(channels, (image_size // 4) ** 2, _BATCH_NORM))
    return _sum(parts)


def _block(variant: Variant, index: int, num_tokens: int) -> ModelCounts:
    channels, num_heads = variant.sizes.widths[index], variant.sizes.heads[index]
    hidden = int(variant.sizes.mlp_ratio * channels)
    side = round(num_tokens**0.5)
    is_linear = index + 1 in variant.linear_stages
    head_dim = channels // num_heads
    # NaLa: keys with values and queries with those, 2 D features each, and a normaliser.
    per_token = 4 * head_dim * channels + 2 * channels if is_linear else 2 * num_tokens * channels
    mixer = (
        _linear(channels, 4 * channels, num_tokens),
        _depthwise(channels, 5, side),
        _norm(channels, num_tokens, _LAYER_NORM),
        _linear(channels, channels, num_tokens),
        _outside_modules(multiply_adds=per_token * num_tokens),
    )
    feed_forward = (
        _linear(channels, hidden, num_tokens),
        _depthwise(hidden, 3, side),
        _linear(hidden, channels, num_tokens),
    )
    around = (
        *[_depthwise(channels, 3, side)] * 2,
        *[_norm(channels, num_tokens, _LAYER_NORM)] * 2,
        _outside_modules(parameters=2 * channels),  # what the branches are multiplied by
    )
    return _sum((*mixer, *feed_forward, *around))


def _linear(inward: int, outward: int, num_tokens: int) -> ModelCounts:
    return _module(inward * outward + outward, inward * outward * num_tokens)


def _convolution(inward: int, outward: int, kernel: int, side: int) -> ModelCounts:
    weights = inward * outward * kernel**2
    return _module(weights + outward, weights * side**2)


def _depthwise(channels: int, kernel: int, side: int) -> ModelCounts:
    weights = channels * kernel**2
    return _module(weights + channels, weights * side**2)


def _norm(channels: int, num_tokens: int, price: int) -> ModelCounts:
    return _module(2 * channels, 0, price * channels * num_tokens)


def _module(parameters: int, multiply_adds: int, norm_operations: int = 0) -> ModelCounts:
    return ModelCounts(
        parameters=parameters,
        module_parameters=parameters,
        multiply_adds=multiply_adds,
        module_multiply_adds=multiply_adds,
        norm_operations=norm_operations,
    )


def _outside_modules(parameters: int = 0, multiply_adds: int = 0) -> ModelCounts:
    return ModelCounts(
        parameters=parameters,
        module_parameters=0,
        multiply_adds=multiply_adds,
        module_multiply_adds=0,
        norm_operations=0,
    )


def _sum(parts: Iterable[ModelCounts]) -> ModelCounts:
    parts = tuple(parts)
    return ModelCounts(
        parameters=sum(part.parameters for part in parts),
        module_parameters=sum(part.module_parameters for part in parts),
        multiply_adds=sum(part.multiply_adds for part in parts),
        module_multiply_adds=sum(part.module_multiply_adds for part in parts),
        norm_operations=sum(part.norm_operations for part in parts),
    )
