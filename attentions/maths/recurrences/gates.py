"""Gates: extra inputs per token, such as a decay, passed by keyword or computed by a layer."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from ...inputs import heads_first
from ...precision import widen

ERASED = -1e4
"""A log decay that leaves nothing, in float64 as well. Minus infinity would not do: sums between
two tokens are differences, and infinity less itself is not a number."""

RATES = (1.0, 16.0)
STEPS = (1e-3, 1e-1)
"""Where Mamba-2 draws the rate and the step of a head's decay, exp(-rate * step) per token."""

HEAD_RATES = (RATES[0] * STEPS[0], RATES[1] * STEPS[1])
"""Decay rates of the slowest and the fastest head, per token, by these ranges."""


def token_gate(mechanism: str, argument: str, given: Tensor, sizes: Sequence[int]) -> Tensor:
    """A gate of the wanted sizes, (B, H, N) or (B, H, N, D), in float32 if it is half.

    Raises:
        ValueError: other sizes, or not a floating-point tensor.
    """
    if not isinstance(given, Tensor):
        raise ValueError(
            f"{mechanism}: {argument} is of type {type(given).__name__}; a floating-point tensor "
            f"of shape {tuple(sizes)} is needed."
        )
    if tuple(given.shape) != tuple(sizes) or not given.is_floating_point():
        raise ValueError(
            f"{mechanism}: {argument} is {given.dtype} of shape {tuple(given.shape)}; a "
            f"floating-point tensor of shape {tuple(sizes)} is needed."
            f"{heads_first(given, sizes[1])}"
        )
    return widen(given)


def spread(bounds: tuple[float, float], count: int) -> Tensor:
    """``count`` numbers between two, evenly spaced on a logarithmic scale, (count,)."""
    low, high = bounds
    places = (torch.arange(count) + 0.5) / count
    return low * (high / low) ** places


class SelectiveDecay(nn.Module):
    """A decay that the data choose, with Mamba-2's parameters: g = -exp(log_rate) * step.

        step = softplus(x + step_bias)

    Mamba-2 draws rates evenly and steps log-evenly from their ranges. Here both are log-evenly
    spaced over the heads, slow heads first, so that nothing is left to chance. With channels, as in
    KDA, the steps are spaced over those of each head instead.
    """

    def __init__(self, num_heads: int, channels: int | None = None) -> None:
        super().__init__()
        self.log_rate = nn.Parameter(spread(RATES, num_heads).log())
        steps = spread(STEPS, num_heads if channels is None else channels)
        # The inverse of softplus.
        bias = torch.expm1(steps).log()
        self.step_bias = nn.Parameter(bias if channels is None else bias.repeat(num_heads, 1))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Step and log decay, (B, H, N) or (B, H, N, D), in float32 for half x with heads third."""
        step = functional.softplus(widen(x) + widen(self.step_bias)).transpose(1, 2)
        return step, step * -widen(self.log_rate).exp().unflatten(0, (-1, *[1] * (step.dim() - 2)))
