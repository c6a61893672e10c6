"""Per-token gates of a core for timing: sizes, and values.

Timing has no layer around a core, so it draws random tokens and projects them by the maps of
`attentions.MultiHeadAttention`, untrained.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import torch
from torch import Tensor, nn

from attentions import Gate
from attentions.maths.recurrences.projected import Size, projections, sizes_per_token

_WEIGHT_SEED, _TOKEN_SEED = 0, 600
_NUM_WINDOWS, _STEP = 4099, 1009
"""Number of windows of a longer draw, and the step between them, in tokens."""


class DrawnGates:
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
                self._known = nn.ModuleDict(projections(self._core, self.gates, self.width))
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


def gates_of(core: Any) -> DrawnGates:
    """The gates that a core takes; none for a layer, which makes its own."""
    if not hasattr(core, "capabilities") or core.capabilities.scopes == ("layer",):
        return DrawnGates({}, core)
    # Another copy of the library has another class `Gate`, perhaps with fewer fields.
    names = [field.name for field in fields(Gate)]
    gates = {
        name: Gate(**{key: getattr(gate, key) for key in names if hasattr(gate, key)})
        for name, gate in core.gates.items()
    }
    return DrawnGates(gates, core)
