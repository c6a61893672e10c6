"""Parts of several models: tokens of an image, stochastic depth, a start."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from ..base import Attention

_SPREAD = 0.02


def check_image(x: Tensor, image_size: int) -> None:
    """Refuse images of another size than the model's mechanisms were built for.

    Raises:
        ValueError: ``x`` is not (B, 3, image_size, image_size).
    """
    if x.ndim != 4 or tuple(x.shape[1:]) != (3, image_size, image_size):
        raise ValueError(
            f"Images of shape {tuple(x.shape)} were given; (B, 3, {image_size}, {image_size}) is "
            "needed. A model is built for one image_size."
        )


class DropPath(nn.Module):
    """Stochastic depth: while training, a sample's branch is left out, else scaled to make good.

    Args:
        rate: the share of samples that are left out.
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        """(B, ...) -> (B, ...)."""
        if not self.training or self.rate == 0:
            return x
        keep = 1 - self.rate
        kept = x.new_empty(x.shape[0], *[1] * (x.ndim - 1)).bernoulli_(keep)
        return x * kept / keep

    def extra_repr(self) -> str:
        """The rate, as it is printed with the model."""
        return f"rate={self.rate:.3g}"


def drop_path_rates(most: float, depths: tuple[int, ...]) -> list[list[float]]:
    """Rates from 0 at the first block to ``most`` at the last, in equal steps, stage by stage."""
    rates = iter(torch.linspace(0, most, sum(depths), device="cpu").tolist())
    return [[next(rates) for _ in range(depth)] for depth in depths]


def outside_cores(module: nn.Module) -> Iterator[nn.Module]:
    """A module and all within it, but no mechanism's core: that starts as its author wants."""
    if isinstance(module, Attention):
        return
    yield module
    for child in module.children():
        yield from outside_cores(child)


def start_narrow(module: nn.Module, kind: type[nn.Linear] | type[nn.Conv2d]) -> None:
    """Weights of all Linears or convolutions from a narrow normal distribution, biases zero.

    The codes of DeiT, PVT, Swin and FLatten start their Linears so, NaLaFormer's its convolutions.
    """
    for part in outside_cores(module):
        if isinstance(part, kind):
            nn.init.trunc_normal_(part.weight, std=_SPREAD)
            if part.bias is not None:
                nn.init.zeros_(part.bias)
