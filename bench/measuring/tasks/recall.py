"""Multi-query associative recall: pairs are shown, then some keys come again; name their values.

In this harness's form, and as Zoology and Based publish it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from bench.measuring.tasks.base import (
    Batch,
    Count,
    Even,
    PartOf1,
    Rate,
    Recipe,
    Size,
    Split,
    Task,
    distinct,
    generator,
    in_turn,
    register_task,
    token_table,
    whole_number,
)
from bench.measuring.tasks.ending import CEILING
from bench.measuring.tasks.generated import Fresh, Generated, Part, of_split

FILLER = 0
TEST_SHARE = 8
"""One in so many arrangements of the queries is kept for the test set."""


class _Pairs(Task):
    """Base of both forms: tokens are the filler 0, keys 1 … V/2 - 1 and values V/2 … V - 1."""

    vocab_size: int
    num_pairs: int

    guess = "any of the value tokens, each as likely"
    answers_are_tokens = True

    def _divide(self, most_pairs: int) -> None:
        """Divide the tokens into keys and values.

        Raises:
            ValueError: there are fewer keys than an example has pairs.
        """
        self.num_classes, self.first_value = self.vocab_size, self.vocab_size // 2
        self.num_guessed = self.vocab_size - self.first_value
        if most_pairs > self.first_value - 1:
            raise ValueError(
                f"vocab_size is {self.vocab_size}, which has {max(self.first_value - 1, 0)} keys "
                f"for num_pairs={most_pairs}; {2 * most_pairs + 2} or more is needed."
            )

    def _shown(
        self,
        size: tuple[int, int],
        num_pairs: int,
        stream: torch.Generator,
        places: Callable[[], Tensor],
    ) -> tuple[Batch, Tensor]:
        """Examples (B, N) with their pairs in front, and their keys (B, P) again at some places.

        Keys of an example differ, and so do values.
        """
        keys = 1 + distinct(size[0], num_pairs, self.first_value - 1, stream)
        values = self.first_value + distinct(size[0], num_pairs, self.num_guessed, stream)
        positions = places()
        inputs = torch.full(size, FILLER)
        inputs[:, 0 : 2 * num_pairs : 2] = keys
        inputs[:, 1 : 2 * num_pairs : 2] = values
        inputs.scatter_(1, positions, keys)
        return Batch(inputs=inputs, targets=values, positions=positions), keys

    def plateaus(self) -> dict[str, float]:
        """Scores of models that find the values of an example and do not tell its keys apart."""
        return {"one of the shown values": 1 / self.num_pairs}


@register_task("recall")
@dataclass(kw_only=True, eq=False)
class Recall(_Pairs, Fresh):
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

    def __post_init__(self) -> None:
        super().__post_init__()
        recipe = self.recipe
        self._divide(self.num_pairs)
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
        return self._shown(
            (count, self.seq_len),
            self.num_pairs,
            stream,
            lambda: self._query_positions(count, part == "test", stream),
        )[0]

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


def _is_test(positions: Tensor) -> Tensor:
    """Whether these query positions belong to the test set: a rule, so no example is in both.

    It says nothing about which value belongs to which key, so there is nothing to learn from it.
    """
    return positions.sum(dim=1) % TEST_SHARE == 0


BASED_MIX = ((64, 4, 5), (128, 8, 1), (256, 16, 1), (256, 32, 1), (256, 64, 1))
"""Tokens and pairs of the lengths that Based trains on, and each one's share of the examples."""
_SHARES = sum(share for _, _, share in BASED_MIX)


@register_task("mqar")
@dataclass(kw_only=True, eq=False)
class MultiQueryRecall(_Pairs, Generated):
    """Read ``k1 v1 … kN vN``; at each later repetition of a key, answer with its value.

    The generator of Arora et al., 2023 (Zoology, arXiv:2312.04927) and 2024 (Based,
    arXiv:2402.18668). Tokens are the filler 0, keys 1 … V/2 - 1 and values V/2 … V - 1; keys of an
    example differ, and so do values. After the pairs, every second place may hold a query; place i
    of these is chosen with a weight of i^(a - 1), so most queries follow the pairs closely. Each
    key comes again once, and the answer is read where it does.

    Deviations: one in eight of all examples is kept for testing, where the source draws both sets
    from one distribution with two seeds. Model and optimiser are this harness's, with a short
    convolution and an MLP in every block. Accuracy counts answers, not examples, alike; with one
    number of pairs that is the same.

    Raises:
        ValueError: a size that leaves no room; the message says what is needed.
    """

    vocab_size: Size = 8192
    """V; below about 1,000 differences between mechanisms get small."""
    seq_len: Even = 64
    """N, and the length that is tested."""
    num_pairs: Size = 4
    """Pairs, and so queries, of an example."""
    power: PartOf1 = 0.01
    """a."""
    filler: Literal["zero", "random", "harmless"] = "zero"
    """Tokens at the other places. ``zero``: token 0 (Zoology, Figure 2). ``random``: any token, by
    accident also a key that is asked for, or a value (Based, and Zoology's default; the source
    draws them outside its seed). ``harmless``: any but the example's keys.
    """
    based_mix: bool = False
    """Whether to train on Based's five lengths, 64 tokens with 4 pairs to 256 with 64, and test on
    `seq_len` and `num_pairs`. A mechanism built for one length only cannot."""
    weight_std: Rate | None = None
    """Spread of normally distributed weights, beside biases of 0, in the embedding and all linear
    maps around the mechanism before training; None: as in other tasks. Zoology has 0.02: what a
    block adds is then no larger than the tokens."""
    ceiling: PartOf1 = CEILING
    """See `Task`; Zoology ends at 0.99."""
    causal: bool = True
    """Whether a token sees only those before it; values are hidden from both."""
    num_train_examples: Count = 100_000
    """See `Generated`; Based has 180,000."""
    num_test_examples: Size = 3000

    default_recipe = Recipe(
        num_heads=1, num_steps=400, batch_size=512, learning_rate=2.15e-3, weight_decay=0.1
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        whole_number("seq_len", self.seq_len, at_least=4 * self.num_pairs)
        mix = BASED_MIX if self.based_mix else ()
        self._divide(max(self.num_pairs, *(pairs for _, pairs, _ in mix), 0))
        self.tested = (self.seq_len, self.num_pairs)
        self.seq_len = max(self.seq_len, *(length for length, _, _ in mix), 0)

    def initialise(self, model: nn.Module) -> None:
        """Draw all weights but gates' and the mechanisms' own, if `weight_std` is given."""
        if self.weight_std is None:
            return
        for name, module in model.named_modules():
            is_around = ".mixer." not in name or name.endswith((".qkv", ".proj"))
            if isinstance(module, nn.Linear | nn.Embedding) and is_around:
                nn.init.normal_(module.weight, std=self.weight_std)
                if isinstance(module, nn.Linear) and module.bias is not None:
                    nn.init.zeros_(module.bias)

    def batches(self, split: Split, seed: int) -> Iterator[Batch]:
        """See `Generated`; of Based's mix, each batch has one length."""
        if split is Split.TEST or not self.based_mix:
            yield from super().batches(split, seed)
            return
        stream, size = generator(seed, "mqar train"), self.recipe.batch_size
        parts = [
            self._of_size(max(self.num_train_examples * share // _SHARES, size), n, pairs, stream)
            for n, pairs, share in BASED_MIX
            if self.num_train_examples
        ]
        places = [
            (part, start)
            for part in parts
            for start in range(0, len(part.targets) - size + 1, size)
        ]
        for (chosen,) in in_turn(len(places), 1, stream) if places else ():
            part, start = places[chosen]
            yield part.select(slice(start, start + size))
        lengths = [(n, pairs) for n, pairs, share in BASED_MIX for _ in range(share)]
        while True:
            n, pairs = lengths[int(torch.randint(_SHARES, (), generator=stream))]
            yield self._of_size(size, n, pairs, stream)

    def draw(self, count: int, split: Split, stream: torch.Generator) -> Batch:
        """Examples of the size that is tested."""
        return self._draw(count, *self.tested, stream)

    def _of_size(self, count: int, seq_len: int, num_pairs: int, stream: torch.Generator) -> Batch:
        return of_split(
            lambda number: self._draw(number, seq_len, num_pairs, stream), count, Split.TRAIN
        )

    def _draw(self, count: int, seq_len: int, num_pairs: int, stream: torch.Generator) -> Batch:
        context = 2 * num_pairs

        def places() -> Tensor:
            return context + 2 * self._places(count, (seq_len - context) // 2, num_pairs, stream)

        batch, keys = self._shown((count, seq_len), num_pairs, stream, places)
        if self.filler != "zero":
            self._fill(batch.inputs, keys, stream)
        return batch

    def _places(self, count: int, num: int, wanted: int, stream: torch.Generator) -> Tensor:
        """(count, wanted): different places of `num`, the i-th with a weight of i^(power - 1).

        Each place waits for a time that its weight makes short; the first to come are chosen.
        """
        weights = torch.arange(1, num + 1, dtype=torch.float64) ** (self.power - 1)
        numbers = torch.rand(count, num, generator=stream, dtype=torch.float64)
        waits = -numbers.clamp_min(1e-300).log() / weights
        return waits.argsort(dim=1)[:, :wanted]

    def _fill(self, inputs: Tensor, keys: Tensor, stream: torch.Generator) -> None:
        """Put random tokens where the filler is."""
        empty = inputs == 0
        while empty.any():
            inputs[empty] = torch.randint(self.vocab_size, (int(empty.sum()),), generator=stream)
            if self.filler == "random":
                return
            empty &= (inputs.unsqueeze(2) == keys.unsqueeze(1)).any(dim=2)
