"""Three of the tasks with which Delétang et al. told classes of languages apart.

Source: Delétang et al., 2022, *Neural Networks and the Chomsky Hierarchy*, arXiv:2207.02098.
Strings have two symbols and any length up to a greatest. Deviations in all three: scores are on
lengths like those of training, where the source scores on 41 to 500 tokens after training on 1 to
40; lengths differ within a batch, and padding, which is not masked, follows the string; one in
eight of all strings is kept for testing. The source trains for a million steps.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from bench.measuring.tasks.base import (
    NO_ANSWER,
    Batch,
    Recipe,
    Size,
    Split,
    register_task,
    whole_number,
)
from bench.measuring.tasks.generated import Generated

MARK, PADDING = 2, 3
RECIPE = Recipe(num_heads=4, num_steps=2000, batch_size=128, learning_rate=1e-3)


@dataclass(kw_only=True, eq=False)
class _Strings(Generated):
    """Strings of the symbols 0 and 1, of random lengths.

    Raises:
        ValueError: lengths in the wrong order.
    """

    min_len: Size = 1
    """Symbols of the shortest string."""
    max_len: Size = 40
    """Symbols of the longest."""
    causal: bool = False
    """Whether a token sees only those before it."""

    default_recipe = RECIPE
    num_classes = 2
    vocab_size = PADDING + 1
    guess = "either symbol, each as likely"
    has_marks = False
    """Whether a mark for each symbol follows the string, so that examples are twice as long."""

    def __post_init__(self) -> None:
        super().__post_init__()
        whole_number("max_len", self.max_len, at_least=self.min_len)
        self.seq_len = 2 * self.max_len if self.has_marks else self.max_len

    def draw(self, count: int, split: Split, stream: torch.Generator) -> Batch:
        """Random strings of random lengths."""
        symbols = torch.randint(2, (count, self.max_len), generator=stream)
        size = (count, 1)
        lengths = torch.randint(self.min_len, self.max_len + 1, size, generator=stream)
        is_string = torch.arange(self.max_len) < lengths
        return self.ask(symbols.masked_fill(~is_string, PADDING), is_string, lengths)

    @abstractmethod
    def ask(self, strings: Tensor, is_string: Tensor, lengths: Tensor) -> Batch:
        """Strings (B, N), which tokens are theirs (B, N) and how many (B, 1) -> examples."""


@register_task("parity")
class Parity(_Strings):
    """Is the number of ones odd? Read at the last symbol. A regular language.

    One wrong symbol turns the answer round, so no part of the string helps: attention of a fixed
    depth learns it hardly at all, and a recurrent state of one bit would do.
    """

    def ask(self, strings: Tensor, is_string: Tensor, lengths: Tensor) -> Batch:
        """The sum of the symbols, modulo 2."""
        ones = (strings * is_string).sum(dim=1, keepdim=True)
        return Batch(inputs=strings, targets=ones % 2, positions=lengths - 1)


@register_task("even_pairs")
class EvenPairs(_Strings):
    """Are there as many ``01`` and ``10`` together as to make an even number? A regular language.

    That is so exactly if the first symbol is the last, so one look-up from the last symbol, where
    the answer is read, suffices. Class 1 is yes.
    """

    def ask(self, strings: Tensor, is_string: Tensor, lengths: Tensor) -> Batch:
        """Whether the first symbol is the last."""
        is_even = strings[:, :1] == strings.gather(1, lengths - 1)
        return Batch(inputs=strings, targets=is_even.long(), positions=lengths - 1)


@register_task("reverse_string")
class ReverseString(_Strings):
    """Name the symbols of a string from its last to its first, at marks behind it.

    A deterministic context-free language. Marks hold nothing but their place.
    """

    has_marks = True

    def ask(self, strings: Tensor, is_string: Tensor, lengths: Tensor) -> Batch:
        """The string backwards, from the token behind it."""
        steps = torch.arange(self.max_len)
        backwards = strings.gather(1, (lengths - 1 - steps).clamp_min(0))
        positions = lengths + steps
        inputs = torch.cat([strings, torch.full_like(strings, PADDING)], dim=1)
        marks = torch.where(is_string, MARK, PADDING)
        return Batch(
            inputs=inputs.scatter(1, positions, marks),
            targets=backwards.masked_fill(~is_string, NO_ANSWER),
            positions=positions,
        )
