"""Multi-query associative recall: pairs are shown, then some keys come again; name their values."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from bench.measuring.tasks.base import (
    Batch,
    Recipe,
    Size,
    distinct,
    register_task,
    token_table,
)
from bench.measuring.tasks.generated import Fresh, Part

FILLER = 0
TEST_SHARE = 8
"""One in so many arrangements of the queries is kept for the test set."""


@register_task("recall")
@dataclass(kw_only=True, eq=False)
class Recall(Fresh):
    """Read ``k1 v1 k2 v2 …``, then, at each later repetition of a key, answer with its value.

    The task is that of Arora et al., 2023, arXiv:2312.04927, in a form for models that see the
    whole sequence and for those that see the past: values are among the inputs in the pairs alone,
    never after a query, so none can be read off a neighbour. Queries lie beyond the reach of the
    model's convolutions from the pairs, so only the mechanism can bring the value. One that brings
    all values of an example without telling their keys apart can score 1 / num_pairs; more than
    that is association.

    Tokens are the filler 0, keys 1 … V/2 - 1 and values V/2 … V - 1. The keys of an example
    differ from each other, as do its values, and every key is asked for once.

    Raises:
        ValueError: pairs that the vocabulary or the sequence has no room for.
    """

    vocab_size: Size = 64
    """V."""
    seq_len: Size = 64
    """N."""
    num_pairs: Size = 4
    """Pairs, and so queries, of an example."""
    causal: bool = False
    """Whether a token sees only those before it. The convolutions then reach twice as far back, and
    queries begin as much later."""

    default_recipe = Recipe(num_steps=600, batch_size=32, learning_rate=6e-3)
    guess = "any of the value tokens, each as likely"
    answers_are_tokens = True

    def __post_init__(self) -> None:
        super().__post_init__()
        self.num_classes, recipe = self.vocab_size, self.recipe
        self.first_value = self.vocab_size // 2
        self.num_guessed = self.vocab_size - self.first_value
        if self.num_pairs > self.first_value - 1:
            raise ValueError(
                f"vocab_size is {self.vocab_size}, which has {max(self.first_value - 1, 0)} keys "
                f"for num_pairs={self.num_pairs}; {2 * self.num_pairs + 2} or more is needed."
            )
        # Pairs, then a gap that the convolutions do not bridge, then the places for queries. There
        # are enough of them that each split has arrangements of its own (see _is_test).
        self.first_slot = 2 * self.num_pairs + self.reach
        needed = self.first_slot + self.num_pairs + TEST_SHARE - 1
        if self.seq_len < needed:
            raise ValueError(
                f"seq_len is {self.seq_len}; num_pairs={self.num_pairs} with {recipe.num_layers} "
                f"layers of conv_width={recipe.conv_width} needs {needed} or more."
            )

    def make(self, count: int, part: Part, stream: torch.Generator) -> Batch:
        """Pairs, then queries at places that the part allows."""
        num_keys, num_values = self.first_value - 1, self.vocab_size - self.first_value
        keys = 1 + distinct(count, self.num_pairs, num_keys, stream)
        values = self.first_value + distinct(count, self.num_pairs, num_values, stream)
        positions = self._query_positions(count, part == "test", stream)
        inputs = torch.full((count, self.seq_len), FILLER)
        inputs[:, 0 : 2 * self.num_pairs : 2] = keys
        inputs[:, 1 : 2 * self.num_pairs : 2] = values
        inputs.scatter_(1, positions, keys)
        return Batch(inputs=inputs, targets=values, positions=positions)

    def _query_positions(self, count: int, is_test: bool, stream: torch.Generator) -> Tensor:
        """(count, num_pairs): where each pair's key is asked for."""
        num_slots = self.seq_len - self.first_slot
        positions = self.first_slot + distinct(count, self.num_pairs, num_slots, stream)
        while True:
            wrong = _is_test(positions) != is_test
            if not wrong.any():
                return positions
            again = distinct(int(wrong.sum()), self.num_pairs, num_slots, stream)
            positions[wrong] = self.first_slot + again

    def embedding(self, embed_dim: int) -> nn.Module:
        """One learned vector per token."""
        return token_table(self.vocab_size, embed_dim)

    def plateaus(self) -> dict[str, float]:
        """Scores of models that find the values of an example and do not tell its keys apart."""
        return {"one of the shown values": 1 / self.num_pairs}


def _is_test(positions: Tensor) -> Tensor:
    """Whether these query positions belong to the test set: a rule, so no example is in both.

    It says nothing about which value belongs to which key, so there is nothing to learn from it.
    """
    return positions.sum(dim=1) % TEST_SHARE == 0
