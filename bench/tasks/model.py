"""The one backbone of all tasks; only the mechanism inside its blocks changes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

import torch

from attentions import MultiHeadAttention, build_layer
from bench.tasks.base import Recipe, Task, seeded


class Block(nn.Module):
    """Pre-norm: a short convolution and the mechanism, then an MLP, each added to the tokens."""

    def __init__(self, recipe: Recipe, mixer: nn.Module) -> None:
        super().__init__()
        width, hidden = recipe.embed_dim, recipe.embed_dim * recipe.mlp_ratio
        self.norm1 = nn.LayerNorm(width)
        self.conv = nn.Conv1d(
            width, width, recipe.conv_width, padding=recipe.conv_width // 2, groups=width
        )
        # Unit variance in, unit variance out. With torch's default, a third of it, queries and keys
        # start so alike that models sit on a plateau for a length that depends on the seed.
        nn.init.normal_(self.conv.weight, std=recipe.conv_width**-0.5)
        nn.init.zeros_(self.conv.bias)
        self.mixer = mixer
        self.norm2 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width))

    def mix(self, x: Tensor) -> Tensor:
        """(B, N, C) -> (B, N, C): the half in which tokens see each other."""
        near = self.conv(self.norm1(x).transpose(1, 2)).transpose(1, 2)
        # A mechanism may rely on the usual strides of a sequence.
        return x + self.mixer(near.contiguous())

    def transform(self, x: Tensor) -> Tensor:
        """(..., C) -> (..., C): the half in which every token is on its own."""
        return x + self.mlp(self.norm2(x))


class Backbone(nn.Module):
    """Embedding, learned positions, blocks, final norm and head."""

    def __init__(self, task: Task, mixers: Sequence[nn.Module]) -> None:
        super().__init__()
        width = task.recipe.embed_dim
        self.embedding = task.embedding(width)
        self.positions = nn.Parameter(torch.randn(task.seq_len, width) * task.recipe.position_std)
        self.blocks = nn.ModuleList(Block(task.recipe, mixer) for mixer in mixers)
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, task.num_classes)
        if task.answers_are_tokens:
            self.head.weight = self.embedding.weight

    def forward(self, inputs: Tensor, positions: Tensor | None = None) -> Tensor:
        """A batch's inputs -> logits, (B, A, classes) at `positions` (B, A), else (B, classes)."""
        x = self.embedding(inputs) + self.positions
        *early, last = self.blocks
        for block in early:
            x = block.transform(block.mix(x))
        x = last.mix(x)
        if positions is not None:  # tokens no longer see each other: the rest is not needed
            x = x.gather(1, positions.unsqueeze(-1).expand(-1, -1, x.shape[-1]))
        x = self.norm(last.transform(x))
        return self.head(x if positions is not None else x.mean(dim=1))


def build_model(task: Task, mechanism: str, hyperparameters: dict[str, Any], seed: int) -> Backbone:
    """The task's backbone around a mechanism.

    Under one seed, all weights outside the mechanism start with the same values, whichever
    mechanism it is and whatever it draws for itself.

    Raises:
        ValueError: the mechanism cannot be built for the task's geometry.
    """
    mixers = []
    for layer in range(task.recipe.num_layers):
        with seeded(seed, f"mechanism {layer}"):
            mixer = build_layer(mechanism, task.geometry, **hyperparameters)
        if isinstance(mixer, MultiHeadAttention):
            with seeded(seed, f"projections {layer}"):
                mixer.qkv.reset_parameters()
                mixer.proj.reset_parameters()
        mixers.append(mixer)
    with seeded(seed, "backbone"):
        return Backbone(task, mixers)
