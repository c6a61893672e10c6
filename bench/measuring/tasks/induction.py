"""Induction head of the H3 paper: say what followed the mark when it came before."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch

from bench.measuring.tasks.associative_recall import NUM_SPECIAL, LookUp
from bench.measuring.tasks.base import Batch, Interval, Split, register_task


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
