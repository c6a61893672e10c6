"""MAD's three tasks of recall: in context, with noise, and of keys that are words; see `mad`."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Annotated

import torch
from annotated_types import MultipleOf
from torch import Tensor, nn

from bench.measuring.tasks.base import (
    Batch,
    Count,
    Interval,
    Size,
    Split,
    register_task,
    whole_number,
)
from bench.measuring.tasks.mad import ANY_VALUE, Mad, PartOfTokens, Vocabulary, check_noise


@dataclass(kw_only=True, eq=False)
class _InContextRecall(Mad):
    """Pairs of a key and a value, in which a key always has the value it had before.

    Ordinary tokens are half keys, half values; the rest of the vocabulary is noise. Each time a key
    comes again its value is asked for. The last pair's key has come before.
    """

    seq_len: Annotated[int, Interval(ge=4), MultipleOf(2)] = 128
    """Tokens of an example; the model sees all but the last."""
    noise_vocab_size: Count = 16
    """Tokens among them that are noise."""
    noise_share: PartOfTokens = 0.2
    """Pairs that are noise."""

    guess = ANY_VALUE

    def __post_init__(self) -> None:
        super().__post_init__()
        check_noise(self.noise_share, self.noise_vocab_size)
        self.num_ordinary = self.vocab_size - self.noise_vocab_size
        if self.num_ordinary < 4:
            raise ValueError(
                f"vocab_size is {self.vocab_size} and noise_vocab_size is "
                f"{self.noise_vocab_size}; 4 tokens or more have to be left for keys and values."
            )
        self.num_guessed = self.num_ordinary - self.num_ordinary // 2
        self.num_pairs = self.seq_len // 2
        self.seq_len -= 1  # the last token is only an answer

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


def _came_before(keys: Tensor, num_keys: int) -> Tensor:
    """(B, P): whether the key at each place stands at an earlier place too."""
    one_hot = nn.functional.one_hot(keys, num_keys + 1)
    return (one_hot.cumsum(dim=1) * one_hot).sum(dim=2) > 1


@register_task("mad_recall")
@dataclass(kw_only=True, eq=False)
class InContextRecall(_InContextRecall):
    """MAD's in-context recall, multi-query: name a key's value each time it comes again.

    As published: training predicts every next token, keys and first values included, which cannot
    be known; the test asks for the values of repeated keys alone. Otherwise training does, too.
    """

    vocab_size: Vocabulary = 16
    """Keys and values, half each."""
    noise_vocab_size: int = field(init=False, default=0)
    noise_share: float = field(init=False, default=0.0)


@register_task("mad_noisy_recall")
@dataclass(kw_only=True, eq=False)
class NoisyRecall(_InContextRecall):
    """MAD's noisy recall: `mad_recall` with pairs of noise tokens among the others.

    Follows the paper as `mad_recall` does, but also predicts the noise. Deviation: the one pair
    that is kept free of noise is never the last; in the source, where it may be, all others can be
    noise.
    """

    vocab_size: Vocabulary = 32
    """All tokens."""


@register_task("mad_fuzzy_recall")
@dataclass(kw_only=True, eq=False)
class FuzzyRecall(Mad):
    """MAD's fuzzy recall: keys and values are words of one to three different tokens.

    In training, words of both kinds have any length; in the test keys have the greatest. The last
    pair has been shown before. The front is padded, so that all examples are of one length.

    As published: training predicts every next token, padding included. Deviation: an example
    whose last key did not come before is drawn again; the source keeps a few of these.

    Raises:
        ValueError: words longer than there are tokens, or a sequence without room for them.
    """

    vocab_size: Vocabulary = 16
    """Keys and values, half each, and one token of padding."""
    seq_len: Size = 128
    """Tokens that the model sees."""
    max_key_len: Size = 3
    """Tokens of the longest key."""
    max_value_len: Size = 3
    """Tokens of the longest value."""

    guess = ANY_VALUE

    def __post_init__(self) -> None:
        super().__post_init__()
        longest = self.max_key_len + self.max_value_len
        whole_number("seq_len", self.seq_len, at_least=3 * longest + 1)
        num_keys = (self.vocab_size - 1) // 2
        num_values = self.vocab_size - 1 - num_keys
        if self.max_key_len > num_keys or self.max_value_len > num_values:
            raise ValueError(
                f"vocab_size is {self.vocab_size}, of which {num_keys} are keys and {num_values} "
                f"values; no word of max_key_len={self.max_key_len} or "
                f"max_value_len={self.max_value_len} different ones can be made."
            )
        self.keys, self.values = range(num_keys), range(num_keys, self.vocab_size - 1)
        self.num_guessed = len(self.values)

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
