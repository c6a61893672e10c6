"""Gates that the data choose: projected from a layer's tokens for a core that takes them.

With gates that are learned and fixed, a gated mechanism would be another one.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from attentions.maths.gates import SelectiveDecay

RANK = 16
"""Rows between the two maps of a gate per channel, as in the GLA paper."""
TEMPERATURE = 16.0
"""Slows a decay per channel, as in the GLA paper, where the core names none of its own."""


class Gated(nn.Module):
    """A layer around a core that takes gates: (B, N, C) -> (B, N, C).

    A gate is per token and head, or per channel of the keys as well, whichever the core takes:

        beta      = sigmoid(W x)                               a share, as in DeltaNet's layer
        log_decay = -exp(log_rate) softplus(W x + step_bias)   per head, as in Mamba-2's
        log_decay = log sigmoid(W_2 W_1 x + b) / temperature   per channel, or of a core that has
                                                               a temperature, as in GLA's

    Args:
        layer: projections around the core, with the core's geometry.

    Raises:
        ValueError: the core takes one of its gates in neither size.
    """

    def __init__(self, layer: Any) -> None:
        super().__init__()
        self.layer = layer
        core, width = layer.core, layer.geometry.embed_dim
        sizes = {name: _sizes(core, name) for name in core.capabilities.gates}
        self.gates = nn.ModuleDict(
            {name: _gate(name, core, width, per_token) for name, per_token in sizes.items()}
        )

    @property
    def names(self) -> tuple[str, ...]:
        """What is projected for the core."""
        return tuple(self.gates)

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, C) -> (B, N, C)."""
        given = {name: gate(x) for name, gate in self.gates.items()}
        return self.layer(x, **given)  # type: ignore[no-any-return]


@torch.no_grad()
def _sizes(core: Any, name: str) -> tuple[int, ...]:
    """What a core takes per token: (H,), or (H, D). Asked by calling it."""
    g = core.geometry
    heads, tokens = g.num_heads, g.seq_len
    q = torch.zeros(1, heads, tokens, g.head_dim)
    k = torch.zeros(1, g.num_kv_heads, tokens, g.head_dim)
    v = torch.zeros(1, g.num_kv_heads, tokens, g.value_dim)
    for sizes in ((heads,), (heads, g.head_dim)):
        gate = torch.zeros(1, heads, tokens, *sizes[1:])
        try:
            core(q, k, v, **{name: gate})
        except Exception:  # a gate of the other size may break any line of a plugin
            continue
        return sizes
    raise ValueError(f"{core.name} takes the gate {name} neither as (B, H, N) nor as (B, H, N, D).")


def _gate(name: str, core: Any, width: int, sizes: tuple[int, ...]) -> nn.Module:
    if not name.startswith("log_"):
        return _Share(width, sizes)
    temperature = getattr(core, "temperature", None)
    if temperature is None and len(sizes) == 1:
        return _StepDecay(width, sizes[0])
    return _SlowDecay(width, sizes, TEMPERATURE if temperature is None else temperature)


def _of_heads(x: Tensor, sizes: tuple[int, ...]) -> Tensor:
    """(B, N, H * D) or (B, N, H) -> (B, H, N, D) or (B, H, N)."""
    by_head: Tensor = x.unflatten(-1, sizes).transpose(1, 2)
    return by_head


def _projection(width: int, sizes: tuple[int, ...]) -> nn.Module:
    if len(sizes) == 1:
        return nn.Linear(width, sizes[0])
    heads, dim = sizes
    return nn.Sequential(nn.Linear(width, RANK, bias=False), nn.Linear(RANK, heads * dim))


class _Share(nn.Module):
    """A number between 0 and 1."""

    def __init__(self, width: int, sizes: tuple[int, ...]) -> None:
        super().__init__()
        self.sizes = sizes
        self.project = _projection(width, sizes)

    def forward(self, x: Tensor) -> Tensor:
        return _of_heads(self.project(x), self.sizes).sigmoid()


class _SlowDecay(nn.Module):
    """The logarithm of one, divided by a temperature."""

    def __init__(self, width: int, sizes: tuple[int, ...], temperature: float) -> None:
        super().__init__()
        self.sizes, self.temperature = sizes, temperature
        self.project = _projection(width, sizes)

    def forward(self, x: Tensor) -> Tensor:
        return functional.logsigmoid(_of_heads(self.project(x), self.sizes)) / self.temperature


class _StepDecay(nn.Module):
    """Mamba-2's: a learned rate per head, times a step per token."""

    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        self.project = nn.Linear(width, num_heads, bias=False)
        self.decay = SelectiveDecay(num_heads)

    def forward(self, x: Tensor) -> Tensor:
        log_decay: Tensor = self.decay(self.project(x))[1]
        return log_decay
