"""Copying: say a string again, or those of its tokens that are not blanks."""

from __future__ import annotations

from dataclasses import replace

import torch

from bench.tasks.base import (
    Batch,
    Recipe,
    Split,
    distinct,
    generator,
    register_task,
    whole_number,
    yes_or_no,
)
from bench.tasks.generated import Generated

_NUM_SAMPLED = 2000
"""Strings from which the plateau is estimated."""


class _Copying(Generated):
    """Symbols 0 … K - 1, then marks at which they are named in order.

    Marks are all alike and hold nothing of the string, so a model that sees all tokens has the same
    task as a causal one.
    """

    default_recipe = Recipe(num_heads=2, num_steps=200, batch_size=32, learning_rate=3e-3)
    guess = "any of the symbols, each as likely"
    num_symbols: int
    num_copied: int

    def chance(self) -> float:
        """One over the number of symbols."""
        return 1 / self.num_symbols

    def plateaus(self) -> dict[str, float]:
        """Of models that know which symbols a string has, and not in which order."""
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
class Copy(_Copying):
    """Read a string, then name its symbols in order, one at each of as many marks.

    The copy task of Graves et al., 2014 (arXiv:1410.5401), at one length. Each symbol must come
    from the place as many tokens back as the string is long, so what a mechanism can hold decides.
    Deviation: marks say nothing but their place, and there is no mark between string and answers.

    Args:
        recipe: model and training.
        num_symbols: K.
        string_len: symbols of a string.
        causal: whether a token sees only those before it.
        num_train_examples: as of `Generated`.
        num_test_examples: as of `Generated`.

    Raises:
        ValueError: a string so short that the convolutions alone could copy it, or no symbols.
    """

    def __init__(
        self,
        recipe: Recipe,
        *,
        num_symbols: int = 8,
        string_len: int = 16,
        causal: bool = True,
        num_train_examples: int = 0,
        num_test_examples: int = 1024,
    ) -> None:
        super().__init__(
            recipe, num_train_examples=num_train_examples, num_test_examples=num_test_examples
        )
        whole_number("num_symbols", num_symbols, at_least=2)
        yes_or_no("causal", causal)
        self.causal = causal
        whole_number("string_len", string_len, at_least=self.reach + 1)
        self.num_classes = self.num_symbols = num_symbols
        self.num_copied = string_len
        self.vocab_size = num_symbols + 1
        self.seq_len = 2 * string_len

    def draw(self, count: int, split: Split, stream: torch.Generator) -> Batch:
        """Random strings."""
        size = (count, self.num_copied)
        symbols = torch.randint(self.num_symbols, size, generator=stream)
        return self._answers(symbols, symbols)


@register_task("selective_copy")
class SelectiveCopy(_Copying):
    """Read symbols with blanks between them, then name the symbols in order, without the blanks.

    Selective copying of Gu and Dao, 2023 (Mamba, arXiv:2312.00752). A symbol's distance from its
    mark differs from example to example, so a fixed delay does not do. The defaults are a reduction
    to 56 tokens; Mamba's own is ``num_symbols=15 num_copied=16 context_len=4096``, trained for
    400,000 steps.

    Args:
        recipe: model and training.
        num_symbols: K.
        num_copied: symbols of a string.
        context_len: places that hold symbols and blanks.
        causal: whether a token sees only those before it.
        num_train_examples: as of `Generated`.
        num_test_examples: as of `Generated`.

    Raises:
        ValueError: no blank among the symbols, or no symbols.
    """

    default_recipe = replace(_Copying.default_recipe, num_steps=600)

    def __init__(
        self,
        recipe: Recipe,
        *,
        num_symbols: int = 8,
        num_copied: int = 8,
        context_len: int = 48,
        causal: bool = True,
        num_train_examples: int = 0,
        num_test_examples: int = 1024,
    ) -> None:
        super().__init__(
            recipe, num_train_examples=num_train_examples, num_test_examples=num_test_examples
        )
        whole_number("num_symbols", num_symbols, at_least=2)
        whole_number("num_copied", num_copied)
        whole_number("context_len", context_len, at_least=num_copied + 1)
        yes_or_no("causal", causal)
        self.causal = causal
        self.num_classes = self.num_symbols = num_symbols
        self.num_copied, self.context_len = num_copied, context_len
        self.vocab_size = num_symbols + 2
        self.seq_len = context_len + num_copied

    def draw(self, count: int, split: Split, stream: torch.Generator) -> Batch:
        """Random symbols at random places of a row of blanks."""
        size = (count, self.num_copied)
        symbols = torch.randint(self.num_symbols, size, generator=stream)
        places = distinct(count, self.num_copied, self.context_len, stream).sort(dim=1).values
        blanks = torch.full((count, self.context_len), self.num_symbols)
        return self._answers(blanks.scatter(1, places, symbols), symbols)
