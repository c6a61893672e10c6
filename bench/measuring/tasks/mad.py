"""The six tasks of MAD, mechanistic architecture design (Poli et al., 2024, arXiv:2403.17844).

Defaults are MAD's baseline settings of the data and its width. With ``as_published`` the examples
are those of its generator, peculiarities included; each class says which these are. What deviates
in all six: one in eight of all examples is kept for testing, where the source draws training and
test sets from two seeds; every random number comes from the seed; model and optimiser are this
harness's, not MAD's four blocks and 200 epochs, and no grid of rates is searched. Numbers are
therefore not those of its tables.

What the six share stands first, then those that recall nothing; `mad_recall` has the other three.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

import torch
from torch import Tensor, nn
from torch.nn import functional

from bench.measuring.tasks.base import (
    NO_ANSWER,
    AtLeast2,
    Batch,
    Count,
    Even,
    Interval,
    Recipe,
    Size,
    Split,
    generator,
    register_task,
    whole_number,
)
from bench.measuring.tasks.generated import Generated, next_tokens

RECIPE = Recipe(embed_dim=128, num_heads=8, num_steps=1000, batch_size=32, learning_rate=1e-3)
ANY_VALUE = "any of the value tokens, each as likely"
Vocabulary = Annotated[int, Interval(ge=4)]
PartOfTokens = Annotated[float, Interval(ge=0, lt=1)]


@dataclass(kw_only=True, eq=False)
class Mad(Generated):
    """Base of the six tasks: token ids that are answered with, and the published form."""

    vocab_size: Vocabulary = 16
    """All tokens."""
    as_published: bool = True
    """Whether examples are those of MAD's generator; see each class."""
    num_train_examples: Count = 12_800
    num_test_examples: Size = 1280

    default_recipe = RECIPE
    answers_are_tokens = True
    causal = True

    def __post_init__(self) -> None:
        super().__post_init__()
        self.num_classes = self.vocab_size

    def _predict(self, tokens: Tensor, is_answer: Tensor, split: Split) -> Batch:
        """Every next token in training, as MAD does; in the test, those that can be known."""
        asks_all = split is Split.TRAIN and self.as_published
        return next_tokens(tokens, None if asks_all else is_answer)


def check_noise(share: float, num_tokens: int) -> None:
    """Refuse a share of noise for which there are no tokens.

    Raises:
        ValueError: names both settings.
    """
    if share > 0 and num_tokens == 0:
        raise ValueError(f"noise_share is {share} and noise_vocab_size is 0; 1 or more is needed.")


@register_task("mad_selective_copy")
@dataclass(kw_only=True, eq=False)
class MadSelectiveCopy(Mad):
    """MAD's selective copying: name the tokens that stood among blanks, in order.

    As published: blanks are put in front of tokens only, so the last token is never followed by a
    blank and always ends the string. (The source draws them outside its seed.) Otherwise a blank
    may come anywhere.

    Raises:
        ValueError: a sequence without room for blanks.
    """

    vocab_size: Vocabulary = 16
    """All tokens; two of them are the blank and the mark that asks."""
    seq_len: Size = 256
    """Tokens of an example."""
    num_copied: Size = 16
    """Tokens to copy."""
    causal: bool = True
    """Whether a token sees only those before it; answers are hidden from both."""

    guess = "any of the tokens that are copied, each as likely"

    def __post_init__(self) -> None:
        super().__post_init__()
        whole_number("seq_len", self.seq_len, at_least=2 * self.num_copied + 2)
        self.num_guessed = self.vocab_size - 2

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


@register_task("mad_compression")
@dataclass(kw_only=True, eq=False)
class Compression(Mad):
    """MAD's compression: the last token must hold all others, to be read from it alone.

    A small network of two layers, which is given each place as a vector, names the token there from
    the last token's vector.

    As published: the last token itself, always the same, is asked for as well, and so is noise,
    which replaces what it hides. Otherwise neither is. Deviation: the network's vectors for places
    are learned, not sines.

    Raises:
        ValueError: noise that leaves too few tokens.
    """

    vocab_size: Vocabulary = 16
    """All tokens, of which one is the last."""
    seq_len: AtLeast2 = 32
    """Tokens of an example."""
    noise_vocab_size: Count = 0
    """Tokens that are noise."""
    noise_share: PartOfTokens = 0.0
    """Tokens of an example that are noise."""
    causal: bool = True
    """Whether a token sees only those before it; the last sees all in both."""

    answers_are_tokens = False
    guess = "any of the tokens but the last and noise, each as likely; the last where it is asked"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_noise(self.noise_share, self.noise_vocab_size)
        self.num_ordinary = self.vocab_size - 1 - self.noise_vocab_size
        if self.num_ordinary < 2:
            raise ValueError(
                f"vocab_size is {self.vocab_size} and noise_vocab_size is "
                f"{self.noise_vocab_size}; 2 tokens or more have to be left."
            )

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
        """Score of guessing: one in so many for ordinary tokens, and all of the last ones."""
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
@dataclass(kw_only=True, eq=False)
class Memorization(Mad):
    """MAD's memorisation: name the value of a key, from a table that no example shows.

    One fixed table gives each key a value; an example is a row of keys, each followed by a token
    that asks. The values never are among the inputs, so the model's weights must hold the table.

    Nothing here is peculiar in the source. Deviation: the table is drawn by this harness's
    generator, so it is another one, fixed as well.

    How much of the table a model holds depends on its blocks and on how its embedding starts, so
    MAD's model is an option: RMSNorm, SwiGLU of as many products as the MLP it replaces, a head of
    its own, embeddings of standard deviation 0.02 and biases of 0.
    """

    vocab_size: Vocabulary = 256
    """All tokens: one asks; of the others half are keys."""
    seq_len: Even = 32
    """Tokens of an example."""
    causal: bool = True
    """Whether a token sees only those before it."""
    source_model: bool = False
    """Whether blocks, embedding and head are MAD's."""
    as_published: bool = field(init=False, default=True)
    num_train_examples: Count = 256

    guess = ANY_VALUE

    def __post_init__(self) -> None:
        super().__post_init__()
        self.num_keys = (self.vocab_size - 1) // 2
        self.num_guessed = self.vocab_size - 1 - self.num_keys
        table = generator(0, "mad_memorization table")
        values = torch.randperm(self.num_guessed, generator=table)[: self.num_keys]
        self.table = self.num_keys + values

    def draw(self, count: int, split: Split, stream: torch.Generator) -> Batch:
        """Random keys, each with the token that asks behind it."""
        keys = torch.randint(self.num_keys, (count, self.seq_len // 2), generator=stream)
        asks = torch.full_like(keys, self.vocab_size - 1)
        positions = torch.arange(1, self.seq_len, 2).expand_as(keys)
        inputs = torch.stack([keys, asks], dim=2).flatten(1)
        return Batch(inputs=inputs, targets=self.table[keys], positions=positions)

    def clusters(self, batch: Batch) -> Tensor:
        """The key that is asked for: its value is known everywhere or nowhere."""
        return batch.inputs[:, ::2]

    def initialise(self, model: nn.Module) -> None:
        """Put MAD's norms, MLPs, head and first weights in place, if `source_model` says so."""
        if not self.source_model:
            return
        assert isinstance(model.blocks, nn.ModuleList) and isinstance(model.embedding, nn.Embedding)
        width, hidden = self.recipe.embed_dim, self.recipe.mlp_width
        model.norm, model.head = nn.RMSNorm(width), self.head(width)
        for block in model.blocks:
            block.norm1 = nn.RMSNorm(width)
            if hidden:
                block.norm2, block.mlp = nn.RMSNorm(width), _SwiGLU(width, hidden * 2 // 3)
        nn.init.normal_(model.embedding.weight, std=_MAD_EMBEDDING_STD)
        for module in model.modules():
            if isinstance(module, nn.Linear) and module.bias is not None:
                nn.init.zeros_(module.bias)


_MAD_EMBEDDING_STD = 0.02


class _SwiGLU(nn.Module):
    """Three products with a hidden width, where an MLP has two; Shazeer, 2020, arXiv:2002.05202."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.gate, self.up = (nn.Linear(width, hidden, bias=False) for _ in range(2))
        self.down = nn.Linear(hidden, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(functional.silu(self.gate(x)) * self.up(x))  # type: ignore[no-any-return]
