"""Tasks with rungs: one model learns several difficulties of a task and is tested at each."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields, replace
from itertools import cycle
from typing import Annotated, Any, Literal

import torch
from torch import nn

from bench.measuring.tasks.associative_recall import Induction
from bench.measuring.tasks.base import (
    NO_ANSWER,
    AtLeast2,
    Batch,
    Interval,
    Recipe,
    Size,
    Split,
    Task,
    generator,
    register_task,
)
from bench.measuring.tasks.copying import Copy
from bench.measuring.tasks.recall import TEST_SHARE, MultiQueryRecall, Recall
from bench.measuring.tasks.tile_recall import TileRecall
from bench.measuring.tasks.word_problem import WordProblem

LEAST_BATCH = 4
"""Fewest training examples of a batch, however long they are."""


@dataclass(kw_only=True, eq=False)
class Ladder(Task):
    """Base of tasks with rungs: values of one setting of another task, each twice the one before.

    Each training batch is of one rung, each as likely; from four times the lowest rung on, batches
    shrink as examples grow. Every rung is tested by itself, on as many examples.

    Raises:
        ValueError: a ladder without a second rung, or a rung that the other task refuses.
    """

    from_rung: Size = 2
    """The lowest rung."""
    to_rung: Size = 128
    """No rung is above."""
    num_test_examples: Annotated[int, Interval(ge=64)] = 128
    """Unseen examples to score on, of each rung."""

    rungs: tuple[int, ...] = field(init=False, repr=False)  # type: ignore[misc]

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.to_rung < 2 * self.from_rung:
            raise ValueError(
                f"to_rung is {self.to_rung} and from_rung is {self.from_rung}; a ladder has two "
                "rungs at least, each twice the one before."
            )
        num_doublings = (self.to_rung // self.from_rung).bit_length()
        self.rungs = tuple(self.from_rung * 2**place for place in range(num_doublings))
        ladder = {"from_rung", "to_rung", "trained_to", "recipe"}
        own = {f.name: getattr(self, f.name) for f in fields(self) if f.init}
        shared = {name: value for name, value in own.items() if name not in ladder}
        self.at = {rung: self.task_at(rung, self._recipe(rung), shared) for rung in self.rungs}
        top = self.at[self.rungs[-1]]
        self.seq_len, self.num_classes = top.seq_len, top.num_classes
        self.num_guessed = top.num_guessed

    @abstractmethod
    def task_at(self, rung: int, recipe: Recipe, shared: dict[str, Any]) -> Task:
        """The task of one rung, with the settings that all rungs share."""

    @property
    def lengths(self) -> tuple[int, ...]:
        """Tokens of an example at each rung."""
        return tuple(task.seq_len for task in self.at.values())

    @property
    def trained(self) -> tuple[int, ...]:
        """Rungs that are trained on; here, all of them."""
        return self.rungs

    def batches(self, split: Split, seed: int) -> Iterator[Batch]:
        """Training batches, each of a random rung; the test sets of all rungs, the lowest first."""
        if split is Split.TEST:
            for task in self.at.values():
                yield from task.batches(split, seed)
            return
        stream = generator(seed, f"{self.name} rungs")
        own = {rung: self.at[rung].batches(split, seed) for rung in self.trained}
        while True:
            yield next(own[self.trained[int(torch.randint(len(own), (), generator=stream))]])

    def validation(self) -> Iterator[Batch]:
        """Batches of the trained rungs in turn."""
        own = [self.at[rung].validation() for rung in self.trained]
        for batches in cycle(own):
            yield next(batches)

    def answers_by_rung(self, test: Sequence[Batch]) -> dict[str, list[int]]:
        """Numbers of test examples, the same for each rung, and of their answers."""
        asked = [int(n) for batch in test for n in (batch.targets != NO_ANSWER).sum(dim=1)]
        size = self.num_test_examples
        places = enumerate(self.rungs)
        return {str(rung): [size, sum(asked[i * size : (i + 1) * size])] for i, rung in places}

    def embedding(self, embed_dim: int) -> nn.Module:
        """The embedding of the other task."""
        return self.at[self.rungs[-1]].embedding(embed_dim)

    def _recipe(self, rung: int) -> Recipe:
        usual = 4 * self.from_rung
        size = self.recipe.batch_size * usual // max(rung, usual)
        least = min(self.recipe.batch_size, LEAST_BATCH)
        return replace(self.recipe, batch_size=max(least, size))


@register_task("recall_span")
@dataclass(kw_only=True, eq=False)
class RecallSpan(Ladder):
    """`recall` with more and more pairs in examples that are as short as these allow.

    A rung is a number of pairs; each key of an example is asked for once.
    """

    to_rung: Size = 64
    """No rung is above."""
    vocab_size: Size = 132
    """V: a filler, then keys, then values; as few as the highest rung needs, since each word takes
    steps to learn."""
    causal: bool = False
    """See `recall`."""

    rung_of = "pairs"
    guess, answers_are_tokens = Recall.guess, True
    default_recipe = Recipe(num_steps=1000, patience=1.0, batch_size=32, learning_rate=3e-3)

    def task_at(self, rung: int, recipe: Recipe, shared: dict[str, Any]) -> Task:
        """Queries at any of the places behind the gap, a few more than there are queries."""
        seq_len = 3 * rung + self.reach + TEST_SHARE - 1
        return Recall(recipe, num_pairs=rung, seq_len=seq_len, **shared)


@register_task("mqar_span")
@dataclass(kw_only=True, eq=False)
class MultiQueryRecallSpan(Ladder):
    """`mqar` with more and more pairs in examples of four tokens a pair: recall with distractors.

    A rung is a number of pairs. Tokens between the queries are random ones, so they are to be told
    from queries.
    """

    to_rung: Size = 64
    """No rung is above."""
    vocab_size: Size = 132
    """V: a filler, then keys, then values."""
    filler: Literal["zero", "random", "harmless"] = "harmless"
    """Tokens at the other places, see `mqar`."""
    causal: bool = True
    """See `mqar`."""

    rung_of = "pairs"
    guess, answers_are_tokens = MultiQueryRecall.guess, True
    default_recipe = replace(RecallSpan.default_recipe, head_norm=True)

    def task_at(self, rung: int, recipe: Recipe, shared: dict[str, Any]) -> Task:
        """Four tokens a pair, so half of the places for queries stay without one."""
        return MultiQueryRecall(
            recipe, num_pairs=rung, seq_len=4 * rung, num_train_examples=0, power=1.0, **shared
        )


@register_task("tile_recall_span")
@dataclass(kw_only=True, eq=False)
class TileRecallSpan(Ladder):
    """`tile_recall` on larger and larger canvases. A rung is a number of tiles."""

    from_rung: Size = 8
    to_rung: Size = 256
    num_pairs: Size = 4
    """Tiles that hold a digit and a sign."""
    num_signs: Size = 8
    """Signs to choose from."""

    rung_of = "tiles"
    guess = TileRecall.guess
    default_recipe = replace(TileRecall.default_recipe, patience=1.0)

    def task_at(self, rung: int, recipe: Recipe, shared: dict[str, Any]) -> Task:
        """One canvas of so many tiles."""
        return TileRecall(recipe, num_tiles=rung, **shared)


@register_task("copy_span")
@dataclass(kw_only=True, eq=False)
class CopySpan(Ladder):
    """`copy` of longer and longer strings. A rung is a number of symbols."""

    from_rung: Size = 8
    num_symbols: AtLeast2 = 8
    """K."""
    causal: bool = True
    """See `copy`."""

    rung_of = "symbols"
    guess = Copy.guess
    default_recipe = replace(Copy.default_recipe, num_steps=1000, patience=1.0, head_norm=True)

    def task_at(self, rung: int, recipe: Recipe, shared: dict[str, Any]) -> Task:
        """Strings of so many symbols."""
        return Copy(recipe, string_len=rung, **shared)


@register_task("word_problem_span")
@dataclass(kw_only=True, eq=False)
class WordProblemSpan(Ladder):
    """`word_problem` over more and more tokens, of which only short ones are trained on.

    A rung is a number of tokens, and the answers of its last quarter count.
    """

    from_rung: AtLeast2 = 4
    to_rung: Size = 256
    trained_to: Size = 32
    """The highest rung that is trained on."""
    group: str = "S3"
    """Z<n>, D<n>, S<n> or A<n>."""
    elements: Literal["generators", "all"] = "generators"
    """See `word_problem`."""

    rung_of = "products"
    guess, causal = WordProblem.guess, True
    default_recipe = replace(WordProblem.default_recipe, num_steps=1000, patience=1.0)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.trained_to < self.from_rung:
            raise ValueError(
                f"trained_to is {self.trained_to} and from_rung is {self.from_rung}; one rung at "
                "least has to be trained on."
            )

    @property
    def trained(self) -> tuple[int, ...]:
        """Rungs up to `trained_to`."""
        return tuple(rung for rung in self.rungs if rung <= self.trained_to)

    def task_at(self, rung: int, recipe: Recipe, shared: dict[str, Any]) -> Task:
        """So many tokens."""
        return WordProblem(recipe, seq_len=rung, scored="last_quarter", **shared)

    def as_scored(self, batch: Batch) -> Batch:
        """See `word_problem`."""
        return self.at[batch.inputs.shape[1]].as_scored(batch)

    def chance(self) -> float:
        """Chance at the highest rung."""
        return self.at[self.rungs[-1]].chance()


@register_task("induction_span")
@dataclass(kw_only=True, eq=False)
class InductionSpan(Ladder):
    """`induction` over longer and longer distances. A rung is a number of tokens before the mark.

    Models are trained on the answer alone.
    """

    from_rung: Annotated[int, Interval(ge=4)] = 8
    to_rung: Size = 256
    vocab_size: Annotated[int, Interval(ge=4)] = 20
    """V; two of the tokens are special."""
    causal: bool = True
    """Whether a token sees only those before it."""

    rung_of = "tokens"
    guess, answers_are_tokens = Induction.guess, True
    default_recipe = replace(Induction.default_recipe, patience=1.0, head_norm=True)

    def task_at(self, rung: int, recipe: Recipe, shared: dict[str, Any]) -> Task:
        """So many tokens before the last mark."""
        return Induction(
            recipe, context_len=rung, predict_all=False, num_train_examples=0, **shared
        )
