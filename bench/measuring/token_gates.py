"""Per-token gates of a core: sizes, maps that project them from tokens, and values for timing.

Training projects gates from a layer's tokens, and learns the maps (`bench.measuring.tasks.model`).
Timing has no layer around a core, so it draws random tokens and projects them by the same maps,
untrained.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from attentions import Gate
from attentions.maths.delta_rule import unit_length
from attentions.maths.gates import SelectiveDecay

RANK = 16
"""Rank of the projection of a gate per channel, as in the GLA paper."""
TEMPERATURE = 16.0
"""Divisor of a log decay per channel, as in the GLA paper, where the core names none."""

_WEIGHT_SEED, _TOKEN_SEED = 0, 600
_NUM_WINDOWS, _STEP = 4099, 1009
"""Number of windows of a longer draw, and the step between them, in tokens."""

Size = tuple[int, ...]

_DECAY = Gate("bhn", high=0)
_OLDER: dict[str, Gate] = {"beta": Gate("bhn", low=0, high=1), "log_decay": _DECAY}
_BY_CHANNEL = ("gla", "gla_fla")
"""Mechanisms of the older libraries with a decay per key channel."""


def declared(core: Any) -> Mapping[str, Gate]:
    """The gates of a core, in the order in which it declares them.

    Raises:
        ValueError: it only names a gate, as older libraries do, and the name is unknown.
    """
    said = getattr(core, "gates", None)
    if said is None:
        said = core.capabilities.gates
    if isinstance(said, Mapping):
        # Another copy of the library has another class `Gate`.
        return {name: Gate(g.shape, g.low, g.high, g.unit, g.query) for name, g in said.items()}
    unknown = [name for name in said if name not in _OLDER]
    if unknown:
        raise ValueError(
            f"{core.name} names the gate {unknown[0]} and says nothing else of it; a mapping of "
            "names to attentions.Gate is needed in its capabilities."
        )
    by_channel = {"log_decay": Gate("bhnd", high=0)} if core.name in _BY_CHANNEL else {}
    return {name: by_channel.get(name, _OLDER[name]) for name in said}


class TokenGates:
    """The gates that a core takes, with the maps that draw values for them; there may be none."""

    def __init__(self, gates: Mapping[str, Gate], core: Any) -> None:
        self.gates = dict(gates)
        self.sizes = {name: sizes_per_token(core, gate) for name, gate in gates.items()}
        self.width: int = core.geometry.embed_dim if gates else 0
        self._core = core
        self._known: nn.ModuleDict | None = None
        self._windows: dict[tuple[Any, ...], dict[str, Tensor]] = {}

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the gates, in the order in which the core declares them."""
        return tuple(self.gates)

    @property
    def _maps(self) -> nn.ModuleDict:
        """The maps as training starts with them, under a seed of their own, float32 on the CPU."""
        if self._known is None:
            with torch.random.fork_rng(devices=[]), torch.device("cpu"):
                torch.manual_seed(_WEIGHT_SEED)
                self._known = gate_maps(self._core, self.width)
        return self._known

    def shapes(self, batch_size: int, num_tokens: int) -> dict[str, Size]:
        """Shape of each gate, such as (B, H, N) or (B, H, N, D)."""
        shapes = {}
        for name, gate in self.gates.items():
            sizes = [batch_size, *self.sizes[name]]
            sizes.insert(gate.shape.index("n"), num_tokens)
            shapes[name] = tuple(sizes)
        return shapes

    def draw(
        self,
        batch_size: int,
        num_tokens: int,
        *,
        seed: int,
        dtype: torch.dtype,
        device: torch.device,
    ) -> list[Tensor]:
        """Gates of random tokens, such as (B, H, N); in memory, heads come after tokens."""
        flat = self._of_tokens(batch_size * num_tokens, seed)
        return [
            self._in_rows(name, x.to(device, dtype), batch_size, num_tokens)
            for name, x in flat.items()
        ]

    def _in_rows(self, name: str, flat: Tensor, batch_size: int, num_tokens: int) -> Tensor:
        """(tokens, H, ...) -> (B, H, N, ...)."""
        rows: Tensor = flat.unflatten(0, (batch_size, num_tokens))
        return rows.movedim(1, self.gates[name].shape.index("n"))

    @torch.no_grad()
    def renew(self, name: str, gate: Tensor, number: int) -> None:
        """Overwrite a gate in place with the values of other tokens, at the cost of a copy.

        They are a window of one longer draw of tokens, which is cached for all gates of this size.
        The same `number` of 4,099 gives the same values.
        """
        batch_size, num_tokens = gate.shape[0], gate.shape[self.gates[name].shape.index("n")]
        count = batch_size * num_tokens
        key = count, gate.dtype, gate.device
        if key not in self._windows:
            drawn = self._of_tokens(count + _NUM_WINDOWS, _TOKEN_SEED)
            self._windows[key] = {at: x.to(gate.device, gate.dtype) for at, x in drawn.items()}
        start = number * _STEP % _NUM_WINDOWS
        window = self._windows[key][name][start : start + count]
        gate.copy_(self._in_rows(name, window, batch_size, num_tokens))

    @torch.no_grad()
    def _of_tokens(self, count: int, seed: int) -> dict[str, Tensor]:
        """Each gate of `count` unit-normal tokens, (tokens, H, ...), float32."""
        if not self.gates:
            return {}
        generator = torch.Generator().manual_seed(seed)
        x = torch.randn(1, count, self.width, generator=generator, device="cpu")
        return {
            name: of(x)[0].movedim(self.gates[name].shape.index("n") - 1, 0)
            for name, of in self._maps.items()
        }


def gates_of(core: Any) -> TokenGates:
    """The gates that a core takes; none for a layer, which makes its own."""
    if not hasattr(core, "capabilities") or core.capabilities.scopes == ("layer",):
        return TokenGates({}, core)
    return TokenGates(declared(core), core)


def gate_maps(core: Any, width: int) -> nn.ModuleDict:
    """Map for each gate of a core, by name, from tokens (B, N, C) of width C."""
    return nn.ModuleDict({name: _map(gate, core, width) for name, gate in declared(core).items()})


def _map(gate: Gate, core: Any, width: int) -> nn.Module:
    size = sizes_per_token(core, gate)
    if not gate.is_log_decay:
        return _InRange(gate, width, size)
    inner = getattr(core, "core", core)  # heads may be shared around it
    temperature = getattr(inner, "temperature", None)
    if temperature is None and len(size) == 1:
        return _StepDecay(width, size[0])
    return _SlowDecay(gate, width, size, TEMPERATURE if temperature is None else temperature)


def _projection(gate: Gate, width: int, size: Size) -> nn.Module:
    """Full projection, but of low rank for a bounded gate per channel, as in GLA and KDA."""
    if size[1:] and gate.shape[-1] in "de" and gate.low > -math.inf and not gate.query:
        return _low_rank(width, size)
    return nn.Linear(width, math.prod(size), bias=not gate.unit)


def _low_rank(width: int, size: Size) -> nn.Module:
    return nn.Sequential(nn.Linear(width, RANK, bias=False), nn.Linear(RANK, math.prod(size)))


class _Projected(nn.Module):
    """Projected numbers of a gate's shape, not yet mapped into its range."""

    def __init__(self, gate: Gate, size: Size, project: nn.Module) -> None:
        super().__init__()
        self.gate, self.sizes, self.project = gate, size, project

    def numbers(self, x: Tensor) -> Tensor:
        """(B, N, C) -> such as (B, H, N) or (B, H, N, D)."""
        projected: Tensor = self.project(x).unflatten(-1, self.sizes)
        return projected.movedim(1, self.gate.shape.index("n"))


class _InRange(_Projected):
    """Numbers within a gate's range, or vectors of unit length."""

    def __init__(self, gate: Gate, width: int, size: Size) -> None:
        super().__init__(gate, size, _projection(gate, width, size))

    def forward(self, x: Tensor) -> Tensor:
        low, high, numbers = self.gate.low, self.gate.high, self.numbers(x)
        if self.gate.unit:
            return unit_length(numbers)
        if low == -math.inf:
            return numbers if high == math.inf else high - functional.softplus(numbers)
        if high == math.inf:
            return low + functional.softplus(numbers)
        share = numbers.sigmoid()
        return share if (low, high) == (0, 1) else low + (high - low) * share


class _SlowDecay(_Projected):
    """Log decay: the logarithm of a sigmoid, divided by a temperature."""

    def __init__(self, gate: Gate, width: int, size: Size, temperature: float) -> None:
        project = nn.Linear(width, size[0]) if len(size) == 1 else _low_rank(width, size)
        super().__init__(gate, size, project)
        self.temperature = temperature

    def forward(self, x: Tensor) -> Tensor:
        return functional.logsigmoid(self.numbers(x)) / self.temperature


class _StepDecay(nn.Module):
    """Log decay of Mamba-2: a learned rate per head times a step per token."""

    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        self.project = nn.Linear(width, num_heads, bias=False)
        self.decay = SelectiveDecay(num_heads)

    def forward(self, x: Tensor) -> Tensor:
        log_decay: Tensor = self.decay(self.project(x))[1]
        return log_decay


def sizes_per_token(core: Any, gate: Gate) -> tuple[int, ...]:
    """Sizes of a gate for one token of one sequence: (H,), (H, D), ..."""
    g = core.geometry
    sizes = {"h": g.num_heads, "d": g.head_dim, "e": g.value_dim, "o": 1}
    sizes |= getattr(core, "gate_axes", {})
    return tuple(sizes[axis] for axis in gate.shape if axis not in "bn")
