"""What a task says: its data and how an answer is scored. Model and training are shared by all."""

from __future__ import annotations

import difflib
import hashlib
import importlib
import inspect
import math
import pkgutil
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor, nn

from attentions import Geometry, plugins
from bench.tasks.positions import POSITIONS

NO_ANSWER = -100
"""The target at a token where nothing is asked: neither trained on nor scored."""


class Split(StrEnum):
    """Which examples: those to learn from, or those to be scored on."""

    TRAIN = "train"
    TEST = "test"


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Examples with their answers.

    Attributes:
        inputs: token ids, (B, N) whole numbers, or measured tokens, (B, N, channels).
        targets: the class of each answer: (B, A), or (B,) if there is one for the whole sequence;
            `NO_ANSWER` where nothing is asked.
        positions: (B, A), the tokens at which the answers are read; None reads one answer from
            the mean over all tokens.
    """

    inputs: Tensor
    targets: Tensor
    positions: Tensor | None = None

    def map(self, change: Callable[[Tensor], Tensor]) -> Batch:
        """The same change to every tensor, such as a selection of examples or another device."""
        positions = None if self.positions is None else change(self.positions)
        return Batch(inputs=change(self.inputs), targets=change(self.targets), positions=positions)

    def chunks(self, size: int) -> Iterator[Batch]:
        """The same examples in order, at most `size` at a time."""
        for start in range(0, len(self.targets), size):
            yield self.select(slice(start, start + size))

    def select(self, examples: Tensor | slice) -> Batch:
        """Some of the examples."""
        return self.map(lambda whole: whole[examples])

    @property
    def num_answers(self) -> int:
        """What is asked, over all examples."""
        return int((self.targets != NO_ANSWER).sum())

    @staticmethod
    def join(parts: Sequence[Batch]) -> Batch:
        """The examples of several batches of one kind, in order."""
        places = [part.positions for part in parts if part.positions is not None]
        return Batch(
            inputs=torch.cat([part.inputs for part in parts]),
            targets=torch.cat([part.targets for part in parts]),
            positions=torch.cat(places) if places else None,
        )


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """The model around a mechanism and its training: the same for every mechanism of a task.

    Attributes:
        embed_dim: channels of a token.
        num_heads: heads that share them.
        num_layers: blocks.
        conv_width: tokens that a block's depthwise convolution sees, an odd number; at 0 or 1 there
            is none. They lie to both sides, or, in a causal model, all in the past.
        mlp_ratio: hidden channels of a block's MLP, per channel of a token.
        match: ``none``; or ``params``, ``flops`` or ``state``: one size of each model is set so
            that all cost the same, see `bench.tasks.match`.
        position: ``learned``, a vector for each place; ``rope``, queries and keys that are turned;
            or ``none``.
        position_std: spread of the learned positions before training.
        num_steps: parameter updates.
        batch_size: training examples in each.
        learning_rate: at its peak; a linear warm-up leads there, a half cosine from there to 0.
        warmup_share: the part of the steps that warms up.
        weight_decay: AdamW's, decoupled from the gradient.
        max_grad_norm: a longer gradient is shortened to this.

    Raises:
        ValueError: a setting outside its range; the message names it and what is allowed.
    """

    embed_dim: int = 64
    num_heads: int = 4
    num_layers: int = 2
    conv_width: int = 3
    mlp_ratio: float = 2
    match: str = "none"
    position: str = "learned"
    position_std: float = 0.02
    num_steps: int = 600
    batch_size: int = 64
    learning_rate: float = 3e-3
    warmup_share: float = 0.1
    weight_decay: float = 0.01
    max_grad_norm: float = 1.0

    def __post_init__(self) -> None:
        counts = ("embed_dim", "num_heads", "num_layers")
        for name in (*counts, "num_steps", "batch_size"):
            whole_number(name, getattr(self, name))
        whole_number("conv_width", self.conv_width, at_least=0)
        one_of("match", self.match, ("none", "params", "flops", "state"))
        one_of("position", self.position, POSITIONS)
        for name in ("learning_rate", "max_grad_norm", "mlp_ratio"):
            _number(name, getattr(self, name), "a number above 0", lambda x: 0 < x < math.inf)
        for name in ("position_std", "weight_decay"):
            _number(name, getattr(self, name), "a number of 0 or more", lambda x: 0 <= x < math.inf)
        _number("warmup_share", self.warmup_share, "a number from 0 to 1", lambda x: 0 <= x <= 1)
        if self.embed_dim % self.num_heads:
            raise ValueError(
                f"embed_dim is {self.embed_dim} and num_heads is {self.num_heads}; "
                "num_heads must divide embed_dim."
            )
        if self.position == "rope" and self.embed_dim // self.num_heads % 2:
            raise ValueError(
                f"embed_dim / num_heads is {self.embed_dim // self.num_heads}; an even number is "
                "needed with position=rope, which turns pairs of channels."
            )
        if self.conv_width % 2 == 0 and self.conv_width:
            raise ValueError(f"conv_width is {self.conv_width}; 0 or an odd number is needed.")

    @property
    def mlp_width(self) -> int:
        """Hidden channels of a block's MLP, one at least."""
        return max(round(self.embed_dim * self.mlp_ratio), 1)

    @property
    def reach(self) -> int:
        """Tokens to either side of which the model learns by its convolutions alone."""
        return self.num_layers * (self.conv_width // 2)


class Task(ABC):
    """Data with known answers, and the score of a model's answers to it.

    A subclass takes the recipe and its own settings, `__init__(self, recipe, *, setting=default)`,
    refuses what it cannot do with a `ValueError`, and is cheap to build: data is made or read in
    `batches`.

    Attributes:
        name: what a YAML's ``task:`` says; set by `register_task`, as is `better`.
        better: ``higher`` or ``lower`` scores.
        unit: what a score counts, such as ``bits per byte``; empty for a share of right answers.
        default_recipe: what the recipe is where a YAML does not say.
        guess: the rule, in words, that scores `chance` without looking at the input.
        answers_are_tokens: whether the classes are the tokens of the input, in the same order; the
            head then shares the embedding's weights.
        causal: whether a token may see only those before it; the mechanism and the convolutions
            are built so.
        seq_len: N, tokens of an example.
        num_classes: possible answers.
    """

    name: ClassVar[str]
    better: ClassVar[str]
    unit: ClassVar[str] = ""
    default_recipe: ClassVar[Recipe]
    guess: ClassVar[str]
    answers_are_tokens: ClassVar[bool] = False
    causal: bool = False
    seq_len: int
    num_classes: int

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe

    @abstractmethod
    def batches(self, split: Split, seed: int) -> Iterator[Batch]:
        """Training batches without end, in an order that `seed` decides; or the test set, once.

        The test set is the same for every seed and shares no example with training.
        """

    def validation(self) -> Iterator[Batch]:
        """Batches to decide by when a run ends and at which learning rate; as many as are there.

        They are the same for every seed, and none is of the test set. Unless a task says
        otherwise they are drawn as for training, from a seed that no run has. A task whose
        training examples are few holds some of them out.
        """
        return self.batches(Split.TRAIN, derived_seed(0, "validation"))

    @abstractmethod
    def embedding(self, embed_dim: int) -> nn.Module:
        """A module from a batch's inputs to tokens, (B, N, embed_dim); positions come later."""

    @abstractmethod
    def chance(self) -> float:
        """What `guess` scores on the test set, or is expected to."""

    def plateaus(self) -> dict[str, float]:
        """Scores at which models halt that learned a part of the task, by what they learned."""
        return {}

    def head(self, embed_dim: int) -> nn.Module:
        """A module from the tokens that answer, (B, A, embed_dim), to logits, (B, A, classes)."""
        return nn.Linear(embed_dim, self.num_classes)

    def score(self, logits: Tensor, batch: Batch) -> float:
        """The share of right answers; logits are shaped like the targets, with a class axis."""
        is_right = logits.argmax(dim=-1) == batch.targets  # never where nothing is asked
        return is_right.sum().item() / max(batch.num_answers, 1)

    def why_no_data(self) -> str | None:
        """What data the task needs that this machine lacks, and how to get it; None if none.

        Raises:
            ValueError: data is there and cannot be used: the message names file and byte.
        """
        return None

    def files(self) -> tuple[Path, ...]:
        """Files whose content decides the examples, so that a changed file is measured again."""
        return ()

    @property
    def reach(self) -> int:
        """Tokens before a token of which the model learns by its convolutions alone."""
        return self.recipe.reach * (2 if self.causal else 1)

    @property
    def geometry(self) -> Geometry:
        """What a mechanism is built for."""
        recipe = self.recipe
        return Geometry(
            num_heads=recipe.num_heads,
            head_dim=recipe.embed_dim // recipe.num_heads,
            seq_len=self.seq_len,
            causal=self.causal,
        )


T = TypeVar("T", bound=Task)

_REGISTRY: dict[str, type[Task]] = {}
_NOT_TASKS = {
    *("base", "checkpoint", "collapse", "ending"),
    *("gates", "leak", "longer", "match", "model", "positions", "train"),
}
GROUP = "attnbench.tasks"
"""Entry points under this name are modules of installed packages that register tasks."""


def register_task(name: str, *, better: str = "higher") -> Callable[[type[T]], type[T]]:
    """Enter a task under a name. A name stands for one class only.

    Args:
        name: what a YAML's ``task:`` says.
        better: ``higher`` or ``lower``, the direction of its score.

    Raises:
        ValueError: another direction, one that does not fit the unit, a name that is taken, or a
            task without a recipe.
    """
    if better not in ("higher", "lower"):
        raise ValueError(f"better is {better!r}; higher or lower is needed.")

    def enter(cls: type[T]) -> type[T]:
        if bool(cls.unit) != (better == "lower"):
            raise ValueError(
                f"The task {name} has better={better!r} and unit={cls.unit!r}: a score with a unit "
                "is better when lower, a share of right answers, without one, when higher."
            )
        taken = _REGISTRY.get(name)
        if taken is not None and taken.__module__ != cls.__module__:
            raise ValueError(
                f"The task name {name!r} is taken by {taken.__module__}.{taken.__qualname__}; "
                f"{cls.__module__}.{cls.__qualname__} needs another."
            )
        if not isinstance(getattr(cls, "default_recipe", None), Recipe):
            raise ValueError(f"The task {name} has no default_recipe, which is a Recipe.")
        cls.name, cls.better = name, better
        _REGISTRY[name] = cls
        return cls

    return enter


def _import_all() -> None:
    package = importlib.import_module("bench.tasks")
    for module in pkgutil.iter_modules(package.__path__):
        if module.name not in _NOT_TASKS:
            importlib.import_module(f"bench.tasks.{module.name}")
    _import_installed()


@cache  # a package that cannot be imported is warned of once
def _import_installed() -> None:
    plugins.load_all(GROUP)


def task_names() -> tuple[str, ...]:
    """All registered names, sorted."""
    _import_all()
    return tuple(sorted(_REGISTRY))


def task_class(name: str) -> type[Task]:
    """The class behind a name.

    Raises:
        ValueError: no such name; the message lists the nearest ones.
    """
    _import_all()
    if name not in _REGISTRY:
        raise ValueError(f"No task is named {name!r}; {_hint(name, _REGISTRY)}")
    return _REGISTRY[name]


def task_settings(name: str) -> dict[str, Any]:
    """Each setting that a task's YAML may write, with its default: the task's own, then the recipe.

    Raises:
        ValueError: no such task.
    """
    cls = task_class(name)
    parameters = list(inspect.signature(cls.__init__).parameters.values())[2:]  # self and recipe
    own = {p.name: None if p.default is p.empty else p.default for p in parameters}
    return own | asdict(cls.default_recipe)


def build_task(name: str, settings: dict[str, Any]) -> Task:
    """A task with the settings of its YAML; a setting that is not given keeps its default.

    Raises:
        ValueError: an unknown task, or a value that it refuses.
        TypeError: a setting that it does not take.
    """
    allowed = task_settings(name)
    for key in settings:
        if key not in allowed:
            raise TypeError(
                f"The task {name} takes no setting {key!r}; {_hint(key, allowed)} "
                f"It takes: {', '.join(allowed)}."
            )
    full = allowed | settings
    recipe = Recipe(**{f.name: full.pop(f.name) for f in fields(Recipe)})
    return task_class(name)(recipe, **full)


def task_to_plan(name: str, settings: dict[str, Any]) -> Task | None:
    """As `build_task`; None of a plugin's that raises anything else, as its training will tell.

    Raises:
        ValueError: the task refuses its settings, or the data that are there.
        TypeError: a setting that it does not take.
    """
    try:
        task = build_task(name, settings)
        task.why_no_data()
        task.files()
        _ = task.geometry
        return task
    except (ValueError, TypeError):
        raise
    except (Exception, SystemExit):
        if task_class(name).__module__.startswith(f"{__package__}."):
            raise
        return None


def _hint(word: str, known: dict[str, Any]) -> str:
    near = difflib.get_close_matches(word, known, n=3, cutoff=0.5)
    return f"did you mean {', '.join(near)}?" if near else f"known: {', '.join(sorted(known))}."


def whole_number(name: str, value: object, *, at_least: int = 1) -> None:
    """Refuse a setting that is not a whole number, or is too small.

    Raises:
        ValueError: names the setting, what was given and what is allowed.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < at_least:
        raise ValueError(f"{name} is {value!r}; a whole number of {at_least} or more is needed.")


def yes_or_no(name: str, value: object) -> None:
    """Refuse a setting that is neither true nor false.

    Raises:
        ValueError: names the setting and what was given.
    """
    if not isinstance(value, bool):
        raise ValueError(f"{name} is {value!r}; true or false is needed.")


def one_of(name: str, value: object, allowed: Sequence[str]) -> None:
    """Refuse a setting that is none of the words allowed.

    Raises:
        ValueError: names the setting, what was given and what is allowed.
    """
    if value not in allowed:
        raise ValueError(f"{name} is {value!r}; {', '.join(allowed)} are allowed.")


def _number(name: str, value: object, allowed: str, is_allowed: Callable[[float], bool]) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not is_allowed(value):
        raise ValueError(f"{name} is {value!r}; {allowed} is needed.")


def derived_seed(seed: int, purpose: str) -> int:
    """One of the many seeds that follow from a run's seed, so that no two uses share a stream."""
    digest = hashlib.sha256(f"{purpose} {seed}".encode()).digest()
    return int.from_bytes(digest[:4], "big")  # torch's CPU generator uses 32 bits of a seed


def generator(seed: int, purpose: str) -> torch.Generator:
    """A stream of random numbers of its own, on the CPU."""
    return torch.Generator().manual_seed(derived_seed(seed, purpose))


@contextmanager
def seeded(seed: int, purpose: str, device: torch.device | None = None) -> Iterator[None]:
    """Give code that draws from torch's global streams a seed, and put the streams back after."""
    devices = [device] if device is not None and device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(derived_seed(seed, purpose))
        yield


def distinct(count: int, size: int, population: int, stream: torch.Generator) -> Tensor:
    """(count, size): in each row, different numbers from 0 to population - 1, in random order.

    Rows with a repetition are drawn again: at a population of thousands a hundred times cheaper
    than to shuffle it. Where most rows would have one, it is shuffled.

    Raises:
        ValueError: more numbers than there are.
    """
    if size > population:
        raise ValueError(f"{size} different numbers of {population} are none.")
    if size * size > 4 * population:  # fewer than one row in seven would have no repetition
        return torch.rand(count, population, generator=stream).argsort(dim=1)[:, :size]
    rows = torch.randint(population, (count, size), generator=stream)
    while True:
        in_order = rows.sort(dim=1).values
        wrong = (in_order[:, 1:] == in_order[:, :-1]).any(dim=1)
        if not wrong.any():
            return rows
        rows[wrong] = torch.randint(population, (int(wrong.sum()), size), generator=stream)


def in_turn(num_examples: int, size: int, stream: torch.Generator) -> Iterator[Tensor]:
    """Indices of `size` examples at a time, without end: all in a random order, then anew."""
    queue = torch.empty(0, dtype=torch.long)
    while True:
        while len(queue) < size:
            queue = torch.cat([queue, torch.randperm(num_examples, generator=stream)])
        yield queue[:size]
        queue = queue[size:]


HELD_OUT = 8
"""One in so many training examples of a fixed set is held out for validation."""


def held_out(num_examples: int) -> Tensor:
    """(num_examples,): which training examples are kept for validation, evenly spread.

    At least one of two; a single example cannot be divided.
    """
    every = min(HELD_OUT, max(num_examples, 2))
    return torch.arange(num_examples) % every == every - 1


def token_table(vocab_size: int, embed_dim: int) -> nn.Embedding:
    """One learned vector per token, fit to be the head as well: logits are of order 1."""
    table = nn.Embedding(vocab_size, embed_dim)
    nn.init.normal_(table.weight, std=embed_dim**-0.5)
    return table
