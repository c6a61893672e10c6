"""Gates projected from tokens, as a layer around a gated core computes them.

A core says by `Gate.activation` how its paper makes each gate of a token.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from ...base import Attention
from ...capabilities import Gate
from ...precision import widen
from ..shared_heads import SharedHeads
from .delta_rule import unit_length
from .gates import SelectiveDecay

RANK = 16
"""Rank of the projection of a gate per channel, as in the GLA paper; that of steps is value_dim, as
in KDA's."""
_FASTEST = -math.exp(-0.5)
"""Log decay that RWKV-7 does not go below."""
_BY_STEP, _FROM_OTHERS = ("step", "dt", "step_size"), ("key", "forgotten")

Size = tuple[int, ...]


class ProjectedGate(nn.Module):
    """One gate of tokens, (B, N, C) -> such as (B, H, N) or (B, H, N, D).

    Args:
        gate: its shape, its range and its activation.
        width: C.
        size: sizes of the gate for one token, such as (H,) or (H, D).
        rank: rank of the projection of a gate per channel, where the papers have one.
        temperature: divides the logarithm of a sigmoid.
        bias: whether the projection of a share has one.
    """

    def __init__(
        self, gate: Gate, width: int, size: Size, *, rank: int, temperature: float, bias: bool
    ) -> None:
        super().__init__()
        self.gate, self.sizes, self.temperature = gate, size, temperature
        by_step, is_wide = gate.activation in _BY_STEP, len(size) > 1
        if is_wide and (by_step or gate.is_log_decay or self._is_share_per_channel):
            down = nn.Linear(width, rank, bias=False)
            has_bias = not by_step and gate.start is None
            up = nn.Linear(rank, math.prod(size), bias=has_bias)
            self.project: nn.Module = nn.Sequential(down, up)
        else:
            has_bias = gate.activation == "logsigmoid" or (bias and not (by_step or gate.unit))
            self.project = nn.Linear(width, math.prod(size), bias=has_bias)
        self.start = None
        if gate.start is not None:
            self.start = nn.Parameter(torch.linspace(*gate.start, math.prod(size)).reshape(size))
        self.decay = SelectiveDecay(*size) if by_step else None
        if self.decay is not None and gate.activation == "step_size":
            self.decay.log_rate.requires_grad_(False)  # it is not used

    @property
    def _is_share_per_channel(self) -> bool:
        gate = self.gate
        return gate.shape[-1] in "de" and gate.low > -math.inf and not gate.query

    def _split(self, numbers: Tensor) -> Tensor:
        """(B, N, ...) -> (B, N, *sizes)."""
        return numbers if len(self.sizes) == 1 else torch.unflatten(numbers, -1, self.sizes)

    def step(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Step and log decay of tokens, by Mamba-2's parameters."""
        assert self.decay is not None
        return self.decay(self._split(self.project(x)))  # type: ignore[no-any-return]

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, C) -> the gate's whole shape, in float32 for half x."""
        gate = self.gate
        if gate.activation == "logsigmoid" and self.start is None:
            share = functional.logsigmoid(widen(self.project(x))) / self.temperature
            return self._split(share).movedim(1, gate.shape.index("n"))
        if self.decay is not None:
            return self.step(x)[0 if gate.activation == "step_size" else 1]
        numbers = self._split(widen(self.project(x)))
        numbers = numbers if self.start is None else numbers + widen(self.start)
        numbers = numbers.movedim(1, gate.shape.index("n"))
        if gate.activation == "logsigmoid":
            return functional.logsigmoid(numbers) / self.temperature
        if gate.activation == "exp":
            return -numbers.exp()
        if gate.activation == "fading":
            return _FASTEST * numbers.sigmoid()
        if gate.unit:
            return unit_length(numbers)
        return _in_range(numbers, gate.low, gate.high)


def _in_range(numbers: Tensor, low: float, high: float) -> Tensor:
    if low == -math.inf:
        return numbers if high == math.inf else high - functional.softplus(numbers)
    if high == math.inf:
        return low + functional.softplus(numbers)
    share = numbers.sigmoid()
    return share if (low, high) == (0, 1) else low + (high - low) * share


class ProjectedGates(nn.ModuleDict):
    """All gates of a core, by name, from the tokens of its layer."""

    def __init__(
        self, core: Attention, width: int, *, bias: bool = True, rank: int | None = None
    ) -> None:
        core = core.core if isinstance(core, SharedHeads) else core  # gates of all its heads
        gates = {k: g for k, g in core.gates.items() if g.activation not in _FROM_OTHERS}
        super().__init__(projections(core, gates, width, bias=bias, rank=rank))
        self.forgotten = [k for k, g in core.gates.items() if g.activation == "forgotten"]

    def forward(self, x: Tensor) -> tuple[dict[str, Tensor], Tensor | None]:
        """(B, N, C) -> gates, and the factor of values, (B, H, N), if the paper has one.

        A gate that follows from the keys is left to the core.
        """
        given, factor = {}, None
        maps: Any = self.items()
        for name, of in maps:
            if of.gate.activation == "dt":
                factor, given[name] = of.step(x)
            else:
                given[name] = of(x)
        for name, of in maps:
            if of.gate.activation == "rate":
                given[name] = given[name] * given["step"]
        given |= {name: -torch.expm1(given["log_decay"]) for name in self.forgotten}
        return given, factor


def projections(
    core: Any,
    gates: Mapping[str, Gate],
    width: int,
    *,
    bias: bool = True,
    rank: int | None = None,
) -> dict[str, ProjectedGate]:
    """A map for each of these gates of a core, in their order."""
    inner = getattr(core, "core", core)  # heads may be shared around it
    temperature = getattr(inner, "temperature", 1.0)
    found = {}
    for name, gate in gates.items():
        size = sizes_per_token(core, gate)
        usual = core.geometry.value_dim if gate.activation in _BY_STEP else RANK
        found[name] = ProjectedGate(
            gate, width, size, rank=rank or usual, temperature=temperature, bias=bias
        )
    return found


def sizes_per_token(core: Any, gate: Gate) -> Size:
    """Sizes of a gate for one token of one sequence: (H,), (H, D), ..."""
    g = core.geometry
    sizes = {"h": g.num_heads, "d": g.head_dim, "e": g.value_dim, "o": 1}
    sizes |= getattr(core, "gate_axes", {})
    return tuple(sizes[axis] for axis in gate.shape if axis not in "bn")
