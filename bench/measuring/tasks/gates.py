"""Gates that the data choose: projected from a layer's tokens for a core that takes them.

With gates that are learned and fixed, a gated mechanism would be another one.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from bench.measuring.token_gates import gate_maps


class Gated(nn.Module):
    """A layer around a core that takes gates: (B, N, C) -> (B, N, C).

    A gate has the shape and the range that the core declares:

        low + (high - low) sigmoid(W x)                        a share, as in DeltaNet's layer
        log_decay = -exp(log_rate) softplus(W x + step_bias)   per head, as in Mamba-2's
        log_decay = log sigmoid(W_2 W_1 x + b) / temperature   per channel, or of a core that has
                                                               a temperature, as in GLA's
        W x / ||W x||                                          a vector of unit length
        W x                                                    one without a range

    Where a core has an auxiliary loss, its gates are projected from detached tokens: that loss
    trains the maps, and nothing else of the model.
    """

    def __init__(self, layer: Any) -> None:
        super().__init__()
        self.layer = layer
        self.gates = gate_maps(layer.core, layer.geometry.embed_dim)
        self.auxiliary: Tensor | None = None
        self.has_auxiliary = getattr(layer.core.capabilities, "auxiliary_loss", False)
        if self.has_auxiliary:  # a hook sees queries and keys as the core does, turned by places
            layer.core.register_forward_hook(self._hear, with_kwargs=True)

    def _hear(self, core: Any, tensors: Any, gates: dict[str, Tensor], _: object) -> None:
        if self.training and torch.is_grad_enabled():
            self.auxiliary = core.auxiliary_loss(*tensors, **gates)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the gates projected for the core."""
        return tuple(self.gates)

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, C) -> (B, N, C)."""
        tokens = x.detach() if self.has_auxiliary else x
        given = {name: gate(tokens) for name, gate in self.gates.items()}
        return self.layer(x, **given)  # type: ignore[no-any-return]


def auxiliary_loss(model: nn.Module) -> Tensor | None:
    """The sum of what the cores of the last training call add to its loss; None if nothing.

    It is forgotten once it was asked for.
    """
    losses = []
    for module in model.modules():
        if isinstance(module, Gated) and module.auxiliary is not None:
            losses.append(module.auxiliary)
            module.auxiliary = None
    return torch.stack(losses).sum() if losses else None
