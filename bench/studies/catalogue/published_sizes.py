"""Sizes of models as papers print them, and how each was counted; data is in the YAML beside it."""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from attentions.mechanisms.grid_layers import NalaLayer
from attentions.models.counting import ModelCounts
from attentions.models.nalaformer import Block, FeedForward
from attentions.models.pvt import PyramidTransformer
from bench.core.cli.command import read_yaml

_RATIO_OF_THE_OTHERS = 3.5


class CountingConvention(enum.StrEnum):
    """Convention by which a counting tool measures a model's size."""

    EVERYTHING = "all parameters, all products"
    WITH_NORMS = "all parameters, all products and norms"
    MODULES = "Linears, convolutions and norms only"

    def of(self, counts: ModelCounts) -> tuple[int, int]:
        """Parameters and multiply-adds."""
        if self is CountingConvention.MODULES:
            return counts.module_parameters, counts.module_multiply_adds
        norms = counts.norm_operations if self is CountingConvention.WITH_NORMS else 0
        return counts.parameters, counts.multiply_adds + norms


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A model's size as printed.

    Attributes:
        model: our name.
        parameters: millions, as many digits as printed.
        multiply_adds: 10^9, as many digits as printed.
        table: where it is printed.
        convention: how it was counted, as far as the numbers tell.
        change: what must be done to the model to arrive at the numbers; None if nothing.
        note: what differs, and what is known of the reason; empty if nothing does.
    """

    model: str
    parameters: str
    multiply_adds: str
    table: str
    convention: CountingConvention
    change: Callable[[nn.Module], None] | None = None
    note: str = ""

    def agrees(self, counts: ModelCounts) -> tuple[bool, bool]:
        """Whether parameters and multiply-adds round to the printed digits."""
        parameters, multiply_adds = self.convention.of(counts)
        return (
            _rounded(parameters / 1e6, self.parameters) == self.parameters,
            _rounded(multiply_adds / 1e9, self.multiply_adds) == self.multiply_adds,
        )


def _rounded(value: float, like: str) -> str:
    return f"{value:.{len(like.partition('.')[2])}f}"


def narrower_feed_forward(model: nn.Module) -> None:
    """Give the blocks of NaLaFormer the mlp_ratio of its other small sizes."""
    for block in model.modules():
        if isinstance(block, Block):
            channels = block.ffn.fc1.in_features
            block.ffn = FeedForward(channels, int(_RATIO_OF_THE_OTHERS * channels))


def without_lepe(model: nn.Module) -> None:
    """Take the depthwise convolution out of each NaLa layer, as in the paper's first version."""
    for module in model.modules():
        if isinstance(module, NalaLayer):
            module.lepe = nn.Identity()  # type: ignore[assignment]


def with_idle_norm(model: nn.Module) -> None:
    """Give PVT the norm before its head that FLatten's code holds and never calls."""
    assert isinstance(model, PyramidTransformer)
    model.idle_norm = nn.LayerNorm(model.head.in_features)


def without_class_token(model: nn.Module) -> None:
    """Take the class token from DeiT, which leaves it the tokens of its patches."""
    vit: Any = model
    vit.cls_token, vit.num_prefix_tokens = None, 0
    vit.pos_embed = nn.Parameter(vit.pos_embed[:, 1:])


_CHANGES = {
    change.__name__: change
    for change in (narrower_feed_forward, without_lepe, with_idle_norm, without_class_token)
}


def _claim(model: str, convention: str, change: str | None = None, **printed: str) -> Claim:
    return Claim(
        model=model,
        convention=CountingConvention[convention.upper()],
        change=_CHANGES[change] if change else None,
        **printed,
    )


_FILE = read_yaml(Path(__file__).with_suffix(".yaml"))
CLAIMS = tuple(_claim(**row) for row in _FILE["claims"])
FVCORE: dict[str, dict[str, Any]] = _FILE["fvcore"]
"""FLOPs that fvcore counts in each model, by our name."""
