"""Associative recall of the H3 paper: one key is asked for at the end."""

from __future__ import annotations

import torch

from bench.tasks.base import Batch, Recipe, Split, register_task, whole_number, yes_or_no
from bench.tasks.generated import Generated, next_tokens

NUM_SPECIAL = 2
"""The mark before the question, and a full stop that these settings never use."""


class LookUp(Generated):
    """What both synthetics of H3 share: token ids, of which the last is the answer."""

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

    def __init__(
        self,
        recipe: Recipe,
        vocab_size: int,
        predict_all: bool,
        causal: bool,
        num_train_examples: int,
        num_test_examples: int,
    ) -> None:
        super().__init__(
            recipe, num_train_examples=num_train_examples, num_test_examples=num_test_examples
        )
        whole_number("vocab_size", vocab_size, at_least=NUM_SPECIAL + 2)
        yes_or_no("causal", causal)
        yes_or_no("predict_all", predict_all)
        if predict_all and not causal:
            raise ValueError(
                "causal is false and predict_all is true: every token would be seen before it is "
                "predicted. Set predict_all=false as well."
            )
        self.causal, self.predict_all = causal, predict_all
        self.num_classes = self.vocab_size = vocab_size

    def _asked(self, tokens: torch.Tensor, split: Split) -> Batch:
        """Sequences as a batch: the last token is the only answer unless all are asked for."""
        batch = next_tokens(tokens)
        if self.predict_all and split is Split.TRAIN:
            return batch
        last = torch.full((len(tokens), 1), tokens.shape[1] - 2)
        return Batch(inputs=batch.inputs, targets=batch.targets[:, -1:], positions=last)


@register_task("associative_recall")
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

    Args:
        recipe: model and training.
        vocab_size: V; the paper prints a chance of 25 %, which only V = 10 has.
        context_len: tokens of all pairs shown, an even number. An example has two more.
        predict_all: train on every next token, as the source does; otherwise on the answer alone.
        causal: whether a token sees only those before it; false needs ``predict_all=false``.
        num_train_examples: as of `Generated`.
        num_test_examples: as of `Generated`.

    Raises:
        ValueError: sizes too small, or a model that would see the tokens it is to predict.
    """

    guess = "any of the value tokens, each as likely"

    def __init__(
        self,
        recipe: Recipe,
        *,
        vocab_size: int = 20,
        context_len: int = 40,
        predict_all: bool = True,
        causal: bool = True,
        num_train_examples: int = 5000,
        num_test_examples: int = 500,
    ) -> None:
        numbers = (num_train_examples, num_test_examples)
        super().__init__(recipe, vocab_size, predict_all, causal, *numbers)
        whole_number("context_len", context_len, at_least=2)
        if context_len % 2:
            raise ValueError(f"context_len is {context_len}; an even number is needed.")
        self.num_keys = (vocab_size - NUM_SPECIAL) // 2
        self.num_pairs = context_len // 2
        self.seq_len = context_len + 2

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

    def chance(self) -> float:
        """One over the number of value tokens."""
        return 1 / (self.vocab_size - NUM_SPECIAL - self.num_keys)
