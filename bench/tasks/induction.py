"""Induction head of the H3 paper: say what followed the mark when it came before."""

from __future__ import annotations

import torch

from bench.tasks.associative_recall import NUM_SPECIAL, LookUp
from bench.tasks.base import Batch, Recipe, Split, register_task, whole_number


@register_task("induction")
class Induction(LookUp):
    """A mark stands once among random tokens and again at the end; name the token that followed it.

    The synthetic of Fu et al., 2022 (H3, arXiv:2212.14052), as in the code that came with it, with
    its one mark and one token to copy. Training predicts every next token. A causal convolution
    joins the mark and the token that follows it; the rest is one look-up.

    Deviations: those of `associative_recall`.

    Args:
        recipe: model and training.
        vocab_size: V; two of the tokens are special.
        context_len: tokens before the last mark.
        predict_all: train on every next token, as the source does; otherwise on the answer alone.
        causal: whether a token sees only those before it; false needs ``predict_all=false``.
        num_train_examples: as of `Generated`.
        num_test_examples: as of `Generated`.

    Raises:
        ValueError: sizes too small, or a model that would see the tokens it is to predict.
    """

    guess = "any of the ordinary tokens, each as likely"

    def __init__(
        self,
        recipe: Recipe,
        *,
        vocab_size: int = 20,
        context_len: int = 30,
        predict_all: bool = True,
        causal: bool = True,
        num_train_examples: int = 5000,
        num_test_examples: int = 500,
    ) -> None:
        numbers = (num_train_examples, num_test_examples)
        super().__init__(recipe, vocab_size, predict_all, causal, *numbers)
        whole_number("context_len", context_len, at_least=3)
        self.context_len = context_len
        self.seq_len = context_len + 1

    def draw(self, count: int, split: Split, stream: torch.Generator) -> Batch:
        """Random tokens with a mark among them, the mark again, and what followed it."""
        size = (count, self.context_len)
        tokens = torch.randint(self.vocab_size - NUM_SPECIAL, size, generator=stream)
        place = torch.randint(self.context_len - 2, (count, 1), generator=stream)
        mark = torch.full((count, 1), self.vocab_size - 1)
        answer = tokens.gather(1, place + 1)
        tokens = torch.cat([tokens.scatter(1, place, mark), mark, answer], dim=1)
        return self._asked(tokens, split)

    def chance(self) -> float:
        """One over the number of ordinary tokens."""
        return 1 / (self.vocab_size - NUM_SPECIAL)
