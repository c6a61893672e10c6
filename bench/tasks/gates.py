"""Gates that the data choose: projected from a layer's tokens for a core that takes them.

With gates that are learned and fixed, a gated mechanism would be another one.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from bench.token_gates import gate_maps, sizes_of


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
        sizes = sizes_of(layer.core, dtype=torch.float32, device=torch.device("cpu"))
        self.gates = gate_maps(sizes, layer.core, layer.geometry.embed_dim)

    @property
    def names(self) -> tuple[str, ...]:
        """What is projected for the core."""
        return tuple(self.gates)

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, C) -> (B, N, C)."""
        given = {name: gate(x) for name, gate in self.gates.items()}
        return self.layer(x, **given)  # type: ignore[no-any-return]
