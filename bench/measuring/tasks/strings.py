"""Strings of symbols: copying them, and three tasks that told classes of languages apart.

Copying repeats a string, or those of its tokens that are not blanks. The other three are of
Delétang et al., 2022, *Neural Networks and the Chomsky Hierarchy*, arXiv:2207.02098. There strings
have two symbols and any length up to a greatest. Deviations in all three: scores are on lengths
like those of training, where the source scores on 41 to 500 tokens after training on 1 to 40;
lengths differ within a batch, and padding, which is not masked, follows the string; one in eight of
all strings is kept for testing. The source trains for a million steps.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from bench.measuring.tasks.base import (
    NO_ANSWER,
    AtLeast2,
    Batch,
    Recipe,
    Size,
    Split,
    distinct,
    generator,
    register_task,
    whole_number,
)
from bench.measuring.tasks.generated import Generated

_NUM_SAMPLED = 2000
"""Strings from which the plateau is estimated."""


@dataclass(kw_only=True, eq=False)
class _Copying(Generated):
    """Symbols 0 … K - 1, then marks at which they are named in order.

    Marks are all alike and hold nothing of the string, so a model that sees all tokens has the same
    task as a causal one.
    """

    num_symbols: AtLeast2 = 8
    """K."""
    num_copied: int = field(init=False, repr=False)
    causal: bool = True
    """Whether a token sees only those before it."""

    default_recipe = Recipe(num_heads=2, num_steps=200, batch_size=32, learning_rate=3e-3)
    guess = "any of the symbols, each as likely"

    def __post_init__(self) -> None:
        super().__post_init__()
        self.num_classes = self.num_symbols

    def plateaus(self) -> dict[str, float]:
        """Scores of models that know which symbols a string has, and not in which order."""
        size = (_NUM_SAMPLED, self.num_copied)
        strings = torch.randint(self.num_symbols, size, generator=generator(0, "plateau"))
        counts = torch.stack([(strings == s).sum(dim=1) for s in range(self.num_symbols)])
        share = counts.max(dim=0).values.double().mean().item() / self.num_copied
        return {"the string's most frequent symbol": share}

    def _answers(self, inputs: torch.Tensor, symbols: torch.Tensor) -> Batch:
        """Put the marks behind the inputs, and ask for the symbols there."""
        count, num = symbols.shape
        marks = torch.full((count, num), self.vocab_size - 1)
        positions = (inputs.shape[1] + torch.arange(num)).expand(count, num)
        return Batch(inputs=torch.cat([inputs, marks], 1), targets=symbols, positions=positions)


@register_task("copy")
@dataclass(kw_only=True, eq=False)
class Copy(_Copying):
    """Read a string, then name its symbols in order, one at each of as many marks.

    The copy task of Graves et al., 2014 (arXiv:1410.5401), at one length. Each symbol must come
    from the place as many tokens back as the string is long, so what a mechanism can hold decides.
    Deviation: marks say nothing but their place, and there is no mark between string and answers.

    Raises:
        ValueError: a string so short that the convolutions alone could copy it.
    """

    string_len: Size = 16
    """Symbols of a string."""

    def __post_init__(self) -> None:
        super().__post_init__()
        whole_number("string_len", self.string_len, at_least=self.reach + 1)
        self.num_copied = self.string_len
        self.vocab_size = self.num_symbols + 1
        self.seq_len = 2 * self.string_len

    def draw(self, count: int, split: Split, stream: torch.Generator) -> Batch:
        """Random strings."""
        size = (count, self.num_copied)
        symbols = torch.randint(self.num_symbols, size, generator=stream)
        return self._answers(symbols, symbols)


@register_task("selective_copy")
@dataclass(kw_only=True, eq=False)
class SelectiveCopy(_Copying):
    """Read symbols with blanks between them, then name the symbols in order, without the blanks.

    Selective copying of Gu and Dao, 2023 (Mamba, arXiv:2312.00752). A symbol's distance from its
    mark differs from example to example, so a fixed delay does not do. The defaults are a reduction
    to 56 tokens; Mamba's own is ``num_symbols=15 num_copied=16 context_len=4096``, trained for
    400,000 steps.

    Raises:
        ValueError: no blank among the symbols.
    """

    num_copied: Size = 8
    """Symbols of a string."""
    context_len: Size = 48
    """Places that hold symbols and blanks."""

    default_recipe = replace(_Copying.default_recipe, num_steps=600)

    def __post_init__(self) -> None:
        super().__post_init__()
        whole_number("context_len", self.context_len, at_least=self.num_copied + 1)
        self.vocab_size = self.num_symbols + 2
        self.seq_len = self.context_len + self.num_copied

    def draw(self, count: int, split: Split, stream: torch.Generator) -> Batch:
        """Random symbols at random places of a row of blanks."""
        size = (count, self.num_copied)
        symbols = torch.randint(self.num_symbols, size, generator=stream)
        places = distinct(count, self.num_copied, self.context_len, stream).sort(dim=1).values
        blanks = torch.full((count, self.context_len), self.num_symbols)
        return self._answers(blanks.scatter(1, places, symbols), symbols)


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
