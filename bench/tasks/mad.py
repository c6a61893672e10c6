"""The six tasks of MAD, mechanistic architecture design (Poli et al., 2024, arXiv:2403.17844).

Defaults are MAD's baseline settings of the data and its width. With ``as_published`` the examples
are those of its generator, peculiarities included; each class says which these are. What deviates
in all six: one in eight of all examples is kept for testing, where the source draws training and
test sets from two seeds; every random number comes from the seed; model and optimiser are this
harness's, not MAD's four blocks and 200 epochs, and no grid of rates is searched. Numbers are
therefore not those of its tables.
"""

from __future__ import annotations

import random

import torch
from torch import Tensor, nn

from bench.tasks.base import (
    NO_ANSWER,
    Batch,
    Recipe,
    Split,
    generator,
    register_task,
    whole_number,
    yes_or_no,
)
from bench.tasks.generated import Generated, next_tokens

RECIPE = Recipe(embed_dim=128, num_heads=8, num_steps=1000, batch_size=32, learning_rate=1e-3)
_ANY_VALUE = "any of the value tokens, each as likely"


class _Mad(Generated):
    """What the six share: token ids that are answered with, and whether to be as published."""

    default_recipe = RECIPE
    answers_are_tokens = True
    causal = True

    def __init__(
        self,
        recipe: Recipe,
        vocab_size: int,
        as_published: bool,
        num_train_examples: int,
        num_test_examples: int,
    ) -> None:
        super().__init__(
            recipe, num_train_examples=num_train_examples, num_test_examples=num_test_examples
        )
        whole_number("vocab_size", vocab_size, at_least=4)
        yes_or_no("as_published", as_published)
        self.as_published = as_published
        self.num_classes = self.vocab_size = vocab_size

    def _predict(self, tokens: Tensor, is_answer: Tensor, split: Split) -> Batch:
        """Every next token in training, as MAD does; in the test, those that can be known."""
        asks_all = split is Split.TRAIN and self.as_published
        return next_tokens(tokens, None if asks_all else is_answer)


def _noise(share: object, num_tokens: int) -> None:
    if isinstance(share, bool) or not isinstance(share, int | float) or not 0 <= share < 1:
        raise ValueError(f"noise_share is {share!r}; a number from 0 to below 1 is needed.")
    if share > 0 and num_tokens == 0:
        raise ValueError(f"noise_share is {share} and noise_vocab_size is 0; 1 or more is needed.")


class _InContextRecall(_Mad):
    """Pairs of a key and a value, in which a key always has the value it had before.

    Ordinary tokens are half keys, half values; the rest of the vocabulary is noise. Each time a key
    comes again its value is asked for. The last pair's key has come before.
    """

    guess = _ANY_VALUE

    def __init__(
        self,
        recipe: Recipe,
        vocab_size: int,
        seq_len: int,
        noise_vocab_size: int,
        noise_share: float,
        as_published: bool,
        num_train_examples: int,
        num_test_examples: int,
    ) -> None:
        super().__init__(recipe, vocab_size, as_published, num_train_examples, num_test_examples)
        whole_number("seq_len", seq_len, at_least=4)
        whole_number("noise_vocab_size", noise_vocab_size, at_least=0)
        _noise(noise_share, noise_vocab_size)
        if seq_len % 2:
            raise ValueError(f"seq_len is {seq_len}; an even number is needed.")
        self.num_ordinary = vocab_size - noise_vocab_size
        if self.num_ordinary < 4:
            raise ValueError(
                f"vocab_size is {vocab_size} and noise_vocab_size is {noise_vocab_size}; 4 tokens "
                "or more have to be left for keys and values."
            )
        self.noise_share = noise_share
        self.num_pairs = seq_len // 2
        self.seq_len = seq_len - 1  # the last token is only an answer

    def draw(self, count: int, split: Split, stream: torch.Generator) -> Batch:
        """Pairs of an example's own map, with noise between them; a known key last."""
        num_keys, num_early = self.num_ordinary // 2, self.num_pairs - 1
        num_values = self.num_ordinary - num_keys
        values = num_keys + torch.randint(num_values, (count, num_keys), generator=stream)
        keys = torch.randint(num_keys, (count, num_early), generator=stream)
        is_noise = torch.rand(count, num_early, generator=stream) < self.noise_share
        kept = torch.randint(num_early, (count, 1), generator=stream)
        is_noise.scatter_(1, kept, False)  # so that there is a pair to ask about
        is_shown = torch.zeros(count, num_keys).scatter_add_(1, keys, (~is_noise).float()) > 0
        lots = torch.rand(count, num_keys, generator=stream).masked_fill(~is_shown, -1)
        keys = torch.cat([keys, lots.argmax(dim=1, keepdim=True)], dim=1)
        is_noise = torch.cat([is_noise, torch.zeros(count, 1, dtype=torch.bool)], dim=1)
        tokens = torch.stack([keys, values.gather(1, keys)], dim=2)
        if self.noise_share:
            size = tokens.shape
            noise = torch.randint(self.num_ordinary, self.vocab_size, size, generator=stream)
            tokens = torch.where(is_noise.unsqueeze(2), noise, tokens)
        came_before = _came_before(keys.masked_fill(is_noise, num_keys), num_keys) & ~is_noise
        is_answer = torch.stack([torch.zeros_like(came_before), came_before], dim=2)
        return self._predict(tokens.flatten(1), is_answer.flatten(1), split)

    def chance(self) -> float:
        """One over the number of value tokens."""
        return 1 / (self.num_ordinary - self.num_ordinary // 2)


def _came_before(keys: Tensor, num_keys: int) -> Tensor:
    """(B, P): whether the key at each place stands at an earlier place too."""
    one_hot = nn.functional.one_hot(keys, num_keys + 1)
    return (one_hot.cumsum(dim=1) * one_hot).sum(dim=2) > 1


@register_task("mad_recall")
class InContextRecall(_InContextRecall):
    """MAD's in-context recall, multi-query: name a key's value each time it comes again.

    As published: training predicts every next token, keys and first values included, which cannot
    be known; the test asks for the values of repeated keys alone. Otherwise training does, too.

    Args:
        recipe: model and training.
        vocab_size: keys and values, half each.
        seq_len: tokens of an example, an even number; the model sees all but the last.
        as_published: see above.
        num_train_examples: as of `Generated`.
        num_test_examples: as of `Generated`.

    Raises:
        ValueError: a size too small or odd.
    """

    def __init__(
        self,
        recipe: Recipe,
        *,
        vocab_size: int = 16,
        seq_len: int = 128,
        as_published: bool = True,
        num_train_examples: int = 12_800,
        num_test_examples: int = 1280,
    ) -> None:
        numbers = (num_train_examples, num_test_examples)
        super().__init__(recipe, vocab_size, seq_len, 0, 0.0, as_published, *numbers)


@register_task("mad_noisy_recall")
class NoisyRecall(_InContextRecall):
    """MAD's noisy recall: `mad_recall` with pairs of noise tokens among the others.

    As published: as of `mad_recall`; noise is predicted, too. Deviation: the one pair that is kept
    free of noise is never the last; in the source, where it may be, all others can be noise.

    Args:
        recipe: model and training.
        vocab_size: all tokens.
        seq_len: tokens of an example, an even number; the model sees all but the last.
        noise_vocab_size: tokens among them that are noise.
        noise_share: pairs that are noise.
        as_published: see above.
        num_train_examples: as of `Generated`.
        num_test_examples: as of `Generated`.

    Raises:
        ValueError: a size too small or odd.
    """

    def __init__(
        self,
        recipe: Recipe,
        *,
        vocab_size: int = 32,
        seq_len: int = 128,
        noise_vocab_size: int = 16,
        noise_share: float = 0.2,
        as_published: bool = True,
        num_train_examples: int = 12_800,
        num_test_examples: int = 1280,
    ) -> None:
        noise = (noise_vocab_size, noise_share)
        numbers = (num_train_examples, num_test_examples)
        super().__init__(recipe, vocab_size, seq_len, *noise, as_published, *numbers)


@register_task("mad_fuzzy_recall")
class FuzzyRecall(_Mad):
    """MAD's fuzzy recall: keys and values are words of one to three different tokens.

    In training, words of both kinds have any length; in the test keys have the greatest. The last
    pair has been shown before. The front is padded, so that all examples are of one length.

    As published: training predicts every next token, padding included. Deviation: an example
    whose last key did not come before is drawn again; the source keeps a few of these.

    Args:
        recipe: model and training.
        vocab_size: keys and values, half each, and one token of padding.
        seq_len: tokens that the model sees.
        max_key_len: tokens of the longest key.
        max_value_len: tokens of the longest value.
        as_published: see above.
        num_train_examples: as of `Generated`.
        num_test_examples: as of `Generated`.

    Raises:
        ValueError: words longer than there are tokens, or a sequence without room for them.
    """

    guess = _ANY_VALUE

    def __init__(
        self,
        recipe: Recipe,
        *,
        vocab_size: int = 16,
        seq_len: int = 128,
        max_key_len: int = 3,
        max_value_len: int = 3,
        as_published: bool = True,
        num_train_examples: int = 12_800,
        num_test_examples: int = 1280,
    ) -> None:
        super().__init__(recipe, vocab_size, as_published, num_train_examples, num_test_examples)
        whole_number("max_key_len", max_key_len)
        whole_number("max_value_len", max_value_len)
        longest = max_key_len + max_value_len
        whole_number("seq_len", seq_len, at_least=3 * longest + 1)
        num_keys = (vocab_size - 1) // 2
        if max_key_len > num_keys or max_value_len > vocab_size - 1 - num_keys:
            raise ValueError(
                f"vocab_size is {vocab_size}, of which {num_keys} are keys and "
                f"{vocab_size - 1 - num_keys} values; no word of max_key_len={max_key_len} or "
                f"max_value_len={max_value_len} different ones can be made."
            )
        self.seq_len = seq_len
        self.max_key_len, self.max_value_len = max_key_len, max_value_len
        self.keys, self.values = range(num_keys), range(num_keys, vocab_size - 1)

    def draw(self, count: int, split: Split, stream: torch.Generator) -> Batch:
        """Words of an example's own map, one after the other, padded in front."""
        seeds = torch.randint(2**31, (count,), generator=stream).tolist()
        rows = [self._words(random.Random(seed), split) for seed in seeds]
        tokens = torch.full((count, self.seq_len + 1), self.vocab_size - 1)
        is_answer = torch.zeros(count, self.seq_len + 1, dtype=torch.bool)
        for row, (words, asked) in enumerate(rows):
            tokens[row, -len(words) :] = torch.tensor(words)
            is_answer[row, -len(words) :] = torch.tensor(asked)
        return self._predict(tokens, is_answer, split)

    def _words(self, draw: random.Random, split: Split) -> tuple[list[int], list[bool]]:
        """An example's tokens, and which of them can be known from those before."""
        while True:
            last = self._key(draw, split)
            meaning = {last: self._value(draw)}
            size = len(last) + len(meaning[last])
            end = self.seq_len - size - (self.max_key_len + self.max_value_len)
            place = draw.randrange(self.seq_len - 2 * size)
            shown: list[tuple[int, ...]] = []
            num_tokens = 0
            while num_tokens < end:
                if num_tokens >= place and last not in shown:
                    word = last
                else:
                    word = self._key(draw, split)
                    if word not in meaning:
                        meaning[word] = self._value(draw)
                shown.append(word)
                num_tokens += len(word) + len(meaning[word])
            if last in shown:
                return _spelt([*shown, last], meaning)

    def _key(self, draw: random.Random, split: Split) -> tuple[int, ...]:
        shortest = self.max_key_len if split is Split.TEST else 1
        return tuple(draw.sample(self.keys, draw.randint(shortest, self.max_key_len)))

    def _value(self, draw: random.Random) -> tuple[int, ...]:
        return tuple(draw.sample(self.values, draw.randint(1, self.max_value_len)))

    def chance(self) -> float:
        """One over the number of value tokens."""
        return 1 / len(self.values)


def _spelt(
    words: list[tuple[int, ...]], meaning: dict[tuple[int, ...], tuple[int, ...]]
) -> tuple[list[int], list[bool]]:
    """Words with their values behind them, and which tokens are values of words seen before."""
    tokens: list[int] = []
    asked: list[bool] = []
    seen = set()
    for word in words:
        tokens += word + meaning[word]
        asked += [False] * len(word) + [word in seen] * len(meaning[word])
        seen.add(word)
    return tokens, asked


@register_task("mad_selective_copy")
class MadSelectiveCopy(_Mad):
    """MAD's selective copying: name the tokens that stood among blanks, in order.

    As published: blanks are put in front of tokens only, so the last token is never followed by a
    blank and always ends the string. (The source draws them outside its seed.) Otherwise a blank
    may come anywhere.

    Args:
        recipe: model and training.
        vocab_size: two of the tokens are the blank and the mark that asks.
        seq_len: tokens of an example.
        num_copied: tokens to copy.
        as_published: see above.
        causal: whether a token sees only those before it; answers are hidden from both.
        num_train_examples: as of `Generated`.
        num_test_examples: as of `Generated`.

    Raises:
        ValueError: a sequence without room for blanks.
    """

    guess = "any of the tokens that are copied, each as likely"

    def __init__(
        self,
        recipe: Recipe,
        *,
        vocab_size: int = 16,
        seq_len: int = 256,
        num_copied: int = 16,
        as_published: bool = True,
        causal: bool = True,
        num_train_examples: int = 12_800,
        num_test_examples: int = 1280,
    ) -> None:
        super().__init__(recipe, vocab_size, as_published, num_train_examples, num_test_examples)
        whole_number("num_copied", num_copied)
        whole_number("seq_len", seq_len, at_least=2 * num_copied + 2)
        yes_or_no("causal", causal)
        self.causal = causal
        self.seq_len, self.num_copied = seq_len, num_copied

    def draw(self, count: int, split: Split, stream: torch.Generator) -> Batch:
        """Tokens and blanks, the mark, and blanks at which the tokens are asked for."""
        num, blank, mark = self.num_copied, self.vocab_size - 2, self.vocab_size - 1
        num_blanks = self.seq_len - 2 * num - 1
        symbols = torch.randint(blank, (count, num), generator=stream)
        num_gaps = num if self.as_published else num + 1
        gaps = torch.randint(num_gaps, (count, num_blanks), generator=stream)
        blanks_before = nn.functional.one_hot(gaps, num + 1).sum(dim=1).cumsum(dim=1)[:, :num]
        inputs = torch.full((count, self.seq_len), blank)
        inputs.scatter_(1, torch.arange(num) + blanks_before, symbols)
        inputs[:, num + num_blanks] = mark
        positions = torch.arange(self.seq_len - num, self.seq_len).expand(count, num)
        return Batch(inputs=inputs, targets=symbols, positions=positions)

    def chance(self) -> float:
        """One over the number of tokens that are copied."""
        return 1 / (self.vocab_size - 2)


@register_task("mad_compression")
class Compression(_Mad):
    """MAD's compression: the last token must hold all others, to be read from it alone.

    A small network of two layers, which is given each place as a vector, names the token there from
    the last token's vector.

    As published: the last token itself, always the same, is asked for as well, and so is noise,
    which replaces what it hides. Otherwise neither is. Deviation: the network's vectors for places
    are learned, not sines.

    Args:
        recipe: model and training.
        vocab_size: all tokens, of which one is the last.
        seq_len: tokens of an example.
        noise_vocab_size: tokens that are noise.
        noise_share: tokens of an example that are noise.
        as_published: see above.
        causal: whether a token sees only those before it; the last sees all in both.
        num_train_examples: as of `Generated`.
        num_test_examples: as of `Generated`.

    Raises:
        ValueError: a size too small.
    """

    answers_are_tokens = False
    guess = "any of the tokens but the last and noise, each as likely; the last where it is asked"

    def __init__(
        self,
        recipe: Recipe,
        *,
        vocab_size: int = 16,
        seq_len: int = 32,
        noise_vocab_size: int = 0,
        noise_share: float = 0.0,
        as_published: bool = True,
        causal: bool = True,
        num_train_examples: int = 12_800,
        num_test_examples: int = 1280,
    ) -> None:
        super().__init__(recipe, vocab_size, as_published, num_train_examples, num_test_examples)
        whole_number("seq_len", seq_len, at_least=2)
        whole_number("noise_vocab_size", noise_vocab_size, at_least=0)
        _noise(noise_share, noise_vocab_size)
        yes_or_no("causal", causal)
        self.num_ordinary = vocab_size - 1 - noise_vocab_size
        if self.num_ordinary < 2:
            raise ValueError(
                f"vocab_size is {vocab_size} and noise_vocab_size is {noise_vocab_size}; 2 tokens "
                "or more have to be left."
            )
        self.causal = causal
        self.seq_len, self.noise_share = seq_len, noise_share

    def draw(self, count: int, split: Split, stream: torch.Generator) -> Batch:
        """Random tokens, and the last one that is to hold them."""
        size = (count, self.seq_len)
        inputs = torch.randint(self.num_ordinary, size, generator=stream)
        is_noise = torch.zeros(size, dtype=torch.bool)
        if self.noise_share:
            noise = torch.randint(self.num_ordinary, self.vocab_size - 1, size, generator=stream)
            is_noise = torch.rand(size, generator=stream) < self.noise_share
            inputs = torch.where(is_noise, noise, inputs)
        inputs[:, -1] = self.vocab_size - 1
        targets = inputs
        if not self.as_published:
            is_noise[:, -1] = True
            targets = inputs.masked_fill(is_noise, NO_ANSWER)
        last = torch.full((count, 1), self.seq_len - 1)
        return Batch(inputs=inputs, targets=targets, positions=last)

    def head(self, embed_dim: int) -> nn.Module:
        """(B, 1, C) -> (B, N, V): every token from the last one's vector and its own place."""
        return _Decoder(embed_dim, self.seq_len, self.num_classes)

    def chance(self) -> float:
        """Of the ordinary tokens one in so many, and all of the last ones."""
        if not self.as_published:
            return 1 / self.num_ordinary
        others = (1 - self.noise_share) * (self.seq_len - 1)
        return (others / self.num_ordinary + 1) / self.seq_len


class _Decoder(nn.Module):
    def __init__(self, embed_dim: int, num_places: int, num_classes: int) -> None:
        super().__init__()
        self.places = nn.Parameter(torch.randn(num_places, embed_dim))
        self.mlp = nn.Sequential(
            nn.Linear(embed_dim, embed_dim),
            nn.GELU(),
            nn.Linear(embed_dim, embed_dim),
            nn.GELU(),
            nn.Linear(embed_dim, num_classes),
        )

    def forward(self, last: Tensor) -> Tensor:
        return self.mlp(last + self.places)  # type: ignore[no-any-return]


@register_task("mad_memorization")
class Memorization(_Mad):
    """MAD's memorisation: name the value of a key, from a table that no example shows.

    One fixed table gives each key a value; an example is a row of keys, each followed by a token
    that asks. The values never are among the inputs, so the model's weights must hold the table.

    Nothing here is peculiar in the source. Deviation: the table is drawn by this harness's
    generator, so it is another one, fixed as well.

    Args:
        recipe: model and training.
        vocab_size: one token asks; of the others half are keys.
        seq_len: tokens of an example, an even number.
        causal: whether a token sees only those before it.
        num_train_examples: as of `Generated`.
        num_test_examples: as of `Generated`.

    Raises:
        ValueError: a size too small or odd.
    """

    guess = _ANY_VALUE

    def __init__(
        self,
        recipe: Recipe,
        *,
        vocab_size: int = 256,
        seq_len: int = 32,
        causal: bool = True,
        num_train_examples: int = 256,
        num_test_examples: int = 1280,
    ) -> None:
        super().__init__(recipe, vocab_size, True, num_train_examples, num_test_examples)
        whole_number("seq_len", seq_len, at_least=2)
        if seq_len % 2:
            raise ValueError(f"seq_len is {seq_len}; an even number is needed.")
        yes_or_no("causal", causal)
        self.causal, self.seq_len = causal, seq_len
        self.num_keys = (vocab_size - 1) // 2
        self.num_values = vocab_size - 1 - self.num_keys
        table = generator(0, "mad_memorization table")
        values = torch.randperm(self.num_values, generator=table)[: self.num_keys]
        self.table = self.num_keys + values

    def draw(self, count: int, split: Split, stream: torch.Generator) -> Batch:
        """Random keys, each with the token that asks behind it."""
        keys = torch.randint(self.num_keys, (count, self.seq_len // 2), generator=stream)
        asks = torch.full_like(keys, self.vocab_size - 1)
        positions = torch.arange(1, self.seq_len, 2).expand_as(keys)
        inputs = torch.stack([keys, asks], dim=2).flatten(1)
        return Batch(inputs=inputs, targets=self.table[keys], positions=positions)

    def chance(self) -> float:
        """One over the number of value tokens."""
        return 1 / self.num_values
