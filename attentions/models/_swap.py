"""A mechanism on its way into a model: what it is, where it goes, and what it is built for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..base import Attention, AttentionLayer, Geometry
from ..registry import attention_class, build_attention


@dataclass(frozen=True, kw_only=True)
class Swap:
    """A mechanism and its places in a model.

    Attributes:
        model: name of the model, for messages.
        mechanism: registered name.
        stages: stages that get it, from 1; unused in models without stages.
        whole_grid: in windowed models, whether it sees the whole grid and not a window.
        hyperparameters: the mechanism's own.
    """

    model: str
    mechanism: str
    stages: tuple[int, ...]
    whole_grid: bool = False
    hyperparameters: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse what cannot mix the tokens of an image.

        Raises:
            ValueError: no such mechanism, a causal one, or one that needs more than q, k and v.
        """
        can = attention_class(self.mechanism).capabilities
        if not can.bidirectional:
            raise ValueError(
                f"{self.model}: {self.mechanism} is causal only, and the tokens of an image have "
                "no order; a bidirectional mechanism is needed."
            )
        if can.gates:
            raise ValueError(
                f"{self.model}: {self.mechanism} needs {' and '.join(can.gates)} for every token, "
                "which this model does not compute; a mechanism without gates is needed."
            )

    def build(
        self, *, stage: int, num_heads: int, embed_dim: int, grid: tuple[int, int]
    ) -> Attention | AttentionLayer:
        """Build the mechanism for a stage.

        Raises:
            ValueError: it refuses the stage's sizes; the message names the stage.
            TypeError: a hyperparameter that it does not take.
        """
        geometry = Geometry(
            num_heads=num_heads,
            head_dim=embed_dim // num_heads,
            seq_len=grid[0] * grid[1],
            grid=grid,
        )
        try:
            return build_attention(self.mechanism, geometry, **self.hyperparameters)
        except ValueError as error:
            rows, columns = grid
            raise ValueError(
                f"{self.model}, stage {stage} with {num_heads} heads on a {rows}x{columns} grid: "
                f"{error}"
            ) from error
