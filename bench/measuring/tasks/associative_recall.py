"""The synthetics of the H3 paper: associative recall, one key asked for, and induction head."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch

from bench.measuring.tasks.base import (
    Batch,
    Count,
    Even,
    Interval,
    Recipe,
    Size,
    Split,
    register_task,
)
from bench.measuring.tasks.generated import Generated, next_tokens

NUM_SPECIAL = 2
"""The mark before the question, and a full stop that these settings never use."""


@dataclass(kw_only=True, eq=False)
class LookUp(Generated):
    """Base of both synthetics of H3: token ids, of which the last is the answer.

    Raises:
        ValueError: a model that would see the tokens it is to predict.
    """

    vocab_size: Annotated[int, Interval(ge=NUM_SPECIAL + 2)] = 20
    """V; two of the tokens are special."""
    predict_all: bool = True
    """Whether to train on every next token, as the source does; otherwise on the answer alone."""
    causal: bool = True
    """Whether a token sees only those before it; false needs ``predict_all=false``."""
    num_train_examples: Count = 5000
    num_test_examples: Size = 500

    default_recipe = Recipe(
        embed_dim=32,
        num_heads=1,
        mlp_ratio=4,
        num_steps=1000,
        batch_size=32,
        learning_rate=3e-3,
        weight_decay=0.1,
    )
    answers_are_tokens = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.predict_all and not self.causal:
            raise ValueError(
                "causal is false and predict_all is true: every token would be seen before it is "
                "predicted. Set predict_all=false as well."
            )
        self.num_classes = self.vocab_size

    def _asked(self, tokens: torch.Tensor, split: Split) -> Batch:
        """Sequences as a batch: the last token is the only answer unless all are asked for."""
        batch = next_tokens(tokens)
        if self.predict_all and split is Split.TRAIN:
            return batch
        last = torch.full((len(tokens), 1), tokens.shape[1] - 2)
        return Batch(inputs=batch.inputs, targets=batch.targets[:, -1:], positions=last)


@register_task("associative_recall")
@dataclass(kw_only=True, eq=False)
class AssociativeRecall(LookUp):
    """Read ``k v k v … mark k``; answer with the value that came with that key.

    The synthetic of Fu et al., 2022 (H3, arXiv:2212.14052), as in the code that came with it: of
    V - 2 ordinary tokens the first half are keys. An example draws a value for every key, with
    repetition, then shows pairs of random keys, so a key may come often. The key of the question is
    any of those shown. Training predicts every next token, most of which cannot be known. The last
    pair lies within reach of the convolutions, so a model without a mechanism can tell its value
    and scores some points above chance.

    Deviations: one in eight of all examples is kept for testing; tokens are numbered by kind; model
    and optimiser are this harness's (source: embeddings of 32, one head, dropout 0.1,
    400 epochs of 5,000 examples at a rate of 5e-4).
    """

    vocab_size: Annotated[int, Interval(ge=NUM_SPECIAL + 2)] = 20
    """V; the paper prints a chance of 25 %, which only V = 10 has."""
    context_len: Even = 40
    """Tokens of all pairs shown. An example has two more."""

    guess = "any of the value tokens, each as likely"

    def __post_init__(self) -> None:
        super().__post_init__()
        self.num_keys = (self.vocab_size - NUM_SPECIAL) // 2
        self.num_guessed = self.vocab_size - NUM_SPECIAL - self.num_keys
        self.num_pairs = self.context_len // 2
        self.seq_len = self.context_len + 2

    def draw(self, count: int, split: Split, stream: torch.Generator) -> Batch:
        """Pairs of an example's own map, then the mark, a key and its value."""
        num_values = self.vocab_size - NUM_SPECIAL - self.num_keys
        values = torch.randint(num_values, (count, self.num_keys), generator=stream)
        keys = torch.randint(self.num_keys, (count, self.num_pairs), generator=stream)
        is_shown = torch.zeros(count, self.num_keys, dtype=torch.bool).scatter_(1, keys, True)
        lots = torch.rand(count, self.num_keys, generator=stream).masked_fill(~is_shown, -1)
        asked = lots.argmax(dim=1, keepdim=True)
        shown = torch.cat([keys, asked], dim=1)
        pairs = torch.stack([shown, self.num_keys + values.gather(1, shown)], dim=2).flatten(1)
        mark = torch.full((count, 1), self.vocab_size - 1)
        tokens = torch.cat([pairs[:, :-2], mark, pairs[:, -2:]], dim=1)
        return self._asked(tokens, split)


@register_task("induction")
@dataclass(kw_only=True, eq=False)
class Induction(LookUp):
    """A mark stands once among random tokens and again at the end; name the token that followed it.

    The synthetic of Fu et al., 2022 (H3, arXiv:2212.14052), as in the code that came with it, with
    its one mark and one token to copy. Training predicts every next token. A causal convolution
    joins the mark and the token that follows it; the rest is one look-up.

    Deviations: those of `associative_recall`.
    """

    context_len: Annotated[int, Interval(ge=3)] = 30
    """Tokens before the last mark."""

    guess = "any of the ordinary tokens, each as likely"

    def __post_init__(self) -> None:
        super().__post_init__()
        self.seq_len = self.context_len + 1
        self.num_guessed = self.vocab_size - NUM_SPECIAL

    def draw(self, count: int, split: Split, stream: torch.Generator) -> Batch:
        """Random tokens with a mark among them, the mark again, and what followed it."""
        size = (count, self.context_len)
        tokens = torch.randint(self.vocab_size - NUM_SPECIAL, size, generator=stream)
        place = torch.randint(self.context_len - 2, (count, 1), generator=stream)
        mark = torch.full((count, 1), self.vocab_size - 1)
        answer = tokens.gather(1, place + 1)
        tokens = torch.cat([tokens.scatter(1, place, mark), mark, answer], dim=1)
        return self._asked(tokens, split)
