"""Copying: repeat a string, or those of its tokens that are not blanks."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import torch

from bench.measuring.tasks.base import (
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
