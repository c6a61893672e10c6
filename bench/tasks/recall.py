"""Multi-query associative recall: pairs are shown, then some keys come again; name their values."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from bench.tasks.base import (
    Batch,
    Recipe,
    distinct,
    register_task,
    token_table,
    whole_number,
    yes_or_no,
)
from bench.tasks.generated import Fresh, Part

FILLER = 0
TEST_SHARE = 8
"""One in so many arrangements of the queries is kept for the test set."""


@register_task("recall")
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

    Args:
        recipe: model and training.
        vocab_size: V.
        seq_len: N.
        num_pairs: pairs, and so queries, of an example.
        causal: whether a token sees only those before it. The convolutions then reach twice as far
            back, and queries begin as much later.
        num_test_examples: unseen examples to score on, each with `num_pairs` answers.

    Raises:
        ValueError: a size below 1, or pairs that the vocabulary or the sequence has no room for.
    """

    default_recipe = Recipe(num_steps=600, batch_size=32, learning_rate=6e-3)
    guess = "any of the value tokens, each as likely"
    answers_are_tokens = True

    def __init__(
        self,
        recipe: Recipe,
        *,
        vocab_size: int = 64,
        seq_len: int = 64,
        num_pairs: int = 4,
        causal: bool = False,
        num_test_examples: int = 1024,
    ) -> None:
        super().__init__(recipe)
        whole_number("vocab_size", vocab_size)
        whole_number("seq_len", seq_len)
        whole_number("num_pairs", num_pairs)
        whole_number("num_test_examples", num_test_examples)
        yes_or_no("causal", causal)
        self.causal = causal
        self.seq_len = seq_len
        self.num_classes = self.vocab_size = vocab_size
        self.num_pairs = num_pairs
        self.num_test_examples = num_test_examples
        self.first_value = vocab_size // 2
        if num_pairs > self.first_value - 1:
            raise ValueError(
                f"vocab_size is {vocab_size}, which has {max(self.first_value - 1, 0)} keys for "
                f"num_pairs={num_pairs}; {2 * num_pairs + 2} or more is needed."
            )
        # Pairs, then a gap that the convolutions do not bridge, then the places for queries. There
        # are enough of them that each split has arrangements of its own (see _is_test).
        self.first_slot = 2 * num_pairs + self.reach
        needed = self.first_slot + num_pairs + TEST_SHARE - 1
        if seq_len < needed:
            raise ValueError(
                f"seq_len is {seq_len}; num_pairs={num_pairs} with {recipe.num_layers} layers of "
                f"conv_width={recipe.conv_width} needs {needed} or more."
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

    def chance(self) -> float:
        """One over the number of value tokens."""
        return 1 / (self.vocab_size - self.first_value)

    def plateaus(self) -> dict[str, float]:
        """Of models that find the values of an example and do not tell its keys apart."""
        return {"one of the shown values": 1 / self.num_pairs}


def _is_test(positions: Tensor) -> Tensor:
    """Whether these query positions belong to the test set: a rule, so no example is in both.

    It says nothing about which value belongs to which key, so there is nothing to learn from it.
    """
    return positions.sum(dim=1) % TEST_SHARE == 0
