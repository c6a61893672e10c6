"""Interface of a task: its data and how an answer is scored. Model and training are shared by all.

Everything that a task's file needs is imported from here, settings (`recipe`), batches (`batch`)
and streams of random numbers (`draws`) too.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, fields
from functools import cache, partial
from numbers import Integral
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from torch import Tensor, nn

from attentions import Geometry, plugins
from bench.core.cli.foreign import foreign_code
from bench.core.cli.limits import Count as Count
from bench.core.cli.limits import Rate as Rate
from bench.core.cli.limits import Share as Share
from bench.core.cli.limits import Size as Size
from bench.core.registry import Registry
from bench.core.settings import Interval as Interval
from bench.measuring.tasks.batch import NO_ANSWER as NO_ANSWER
from bench.measuring.tasks.batch import Batch as Batch
from bench.measuring.tasks.batch import Split as Split
from bench.measuring.tasks.draws import HELD_OUT as HELD_OUT
from bench.measuring.tasks.draws import derived_seed as derived_seed
from bench.measuring.tasks.draws import distinct as distinct
from bench.measuring.tasks.draws import generator as generator
from bench.measuring.tasks.draws import held_out as held_out
from bench.measuring.tasks.draws import in_turn as in_turn
from bench.measuring.tasks.draws import seeded as seeded
from bench.measuring.tasks.ending import CEILING
from bench.measuring.tasks.recipe import AtLeast2 as AtLeast2
from bench.measuring.tasks.recipe import Even as Even
from bench.measuring.tasks.recipe import PartOf1 as PartOf1
from bench.measuring.tasks.recipe import Recipe as Recipe
from bench.measuring.tasks.recipe import check, defaults_of
from bench.measuring.tasks.recipe import whole_number as whole_number


@dataclass(eq=False)
class Task(ABC):
    """Data with known answers, and the score of a model's answers to it.

    A subclass is a dataclass, ``@dataclass(kw_only=True, eq=False)``, whose fields are its
    settings: types say what a YAML may set, defaults hold where it sets nothing. `__post_init__`
    refuses with a ValueError what settings cannot be together. A constructor does as well:
    ``__init__(self, recipe, *, setting: Size = 4)``. Building is cheap: `batches` makes the data.

    Attributes:
        name: what a YAML's ``task:`` says; set by `register_task`, as is `better`.
        better: ``higher`` or ``lower`` scores.
        unit: what a score counts, such as ``bits per byte``; empty for a share of right answers.
        ceiling: a share of right validation answers at which training ends.
        default_recipe: what the recipe is where a YAML does not say.
        guess: the rule, in words, that scores `chance` without looking at the input.
        num_guessed: number of classes that it chooses from, each as likely; 0 for all.
        answers_are_tokens: whether the classes are the tokens of the input, in the same order; the
            head then shares the embedding's weights.
        has_patches: whether tokens are patches of an image, of which some may be dropped.
        length_factors: multiples of the length trained at whose scores are recorded too, where a
            model can read longer examples.
        causal: whether a token may see only those before it; the mechanism and the convolutions
            are built so.
        rungs: difficulties that are learned together and tested one by one, each on the same number
            of examples, in the order of the test set; empty for most tasks.
        rung_of: the unit of a rung, such as ``pairs``.
        seq_len: N, tokens of an example.
    """

    name: ClassVar[str]
    better: ClassVar[str]
    unit: ClassVar[str] = ""
    default_recipe: ClassVar[Recipe]
    guess: ClassVar[str]
    answers_are_tokens: ClassVar[bool] = False
    has_patches: ClassVar[bool] = False
    length_factors: ClassVar[tuple[int, ...]] = (2, 4)
    causal = False
    ceiling = CEILING
    num_guessed = 0
    rungs: ClassVar[tuple[int, ...]] = ()
    rung_of: ClassVar[str] = ""
    recipe: Recipe
    seq_len: int = field(init=False, repr=False)
    num_classes: int = field(init=False, repr=False)

    def __post_init__(self) -> None:  # noqa: B027  # a task without anything to derive or refuse
        """Derive attributes from the settings; raises ValueError for what they cannot be."""

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

    def as_scored(self, batch: Batch) -> Batch:
        """Training examples with the answers that count in a score; here, with all of them."""
        return batch

    def chance(self) -> float:
        """Score of `guess` on the test set, measured or expected; here, of one in `num_guessed`."""
        return 1 / (self.num_guessed or self.num_classes)

    def plateaus(self) -> dict[str, float]:
        """Scores of partial solutions, by name."""
        return {}

    def head(self, embed_dim: int) -> nn.Module:
        """A module from the tokens that answer, (B, A, embed_dim), to logits, (B, A, classes)."""
        return nn.Linear(embed_dim, self.num_classes)

    def initialise(self, model: nn.Module) -> None:  # noqa: B027  # most tasks leave it as it is
        """Change weights of a new model, by torch's stream; a mechanism's own are not its."""

    def score(self, logits: Tensor, batch: Batch) -> float:
        """The share of right answers; logits are shaped like the targets, with a class axis."""
        is_right = logits.argmax(dim=-1) == batch.targets  # never where nothing is asked
        return is_right.sum().item() / max(batch.num_answers, 1)

    def each_answer(self, logits: Tensor, batch: Batch) -> Tensor | None:
        """A value for each answer, shaped like the targets, of which `score` is the mean.

        Whether it is right, or a loss in the task's unit. None where `score` is something else: a
        task with a score of its own says here how it splits up.
        """
        if type(self).score is not Task.score:
            return None
        return logits.argmax(dim=-1) == batch.targets

    def clusters(self, batch: Batch) -> Tensor | None:
        """Numbers, shaped like the targets, that are equal for answers which go together.

        None means that each example is a cluster of its own. Answers that rest on one thing that
        was learned, such as the value of a key that many examples ask for, are right together.
        """
        return None

    @property
    def lengths(self) -> tuple[int, ...]:
        """Tokens of its examples, once for each kind; one number where all are alike."""
        return (self.seq_len,)

    def answers_by_rung(self, test: Sequence[Batch]) -> dict[str, list[int]]:
        """Numbers of test examples and of their answers, by rung; none without rungs."""
        return {}

    def why_no_data(self) -> str | None:
        """Data that the task needs and this machine lacks, and how to get it; or None.

        Raises:
            ValueError: data is there and cannot be used: the message names file and byte.
        """
        return None

    def objects(self) -> Tensor | None:
        """(B, N), which tokens of the test set lie on an object; None if that is not known."""
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
        """Geometry that a mechanism is built for."""
        recipe = self.recipe
        return Geometry(
            num_heads=recipe.num_heads,
            head_dim=recipe.embed_dim // recipe.num_heads,
            seq_len=self.seq_len,
            causal=self.causal,
        )


T = TypeVar("T", bound=Task)

GROUP = "attnbench.tasks"
"""Entry points under this name are modules of installed packages that register tasks."""
TASKS: Registry[type[Task]] = Registry(
    "task",
    "bench.measuring.tasks",
    cache(partial(plugins.load_all, GROUP)),  # a package that fails is warned of once
)
task_names, task_class = TASKS.names, TASKS.find


def register_task(name: str, *, better: str = "higher") -> Callable[[type[T]], type[T]]:
    """Enter a task under a name. A name stands for one class only.

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
        if not isinstance(getattr(cls, "default_recipe", None), Recipe):
            raise ValueError(f"The task {name} has no default_recipe, which is a Recipe.")
        TASKS.enter(name, cls, cls)
        cls.name, cls.better = name, better
        return cls

    return enter


def task_settings(name: str) -> dict[str, Any]:
    """Settings that a task's YAML may write, with defaults: the task's own, then the recipe's.

    Raises:
        ValueError: no such task.
    """
    return defaults_of(task_class(name))


def build_task(name: str, settings: dict[str, Any]) -> Task:
    """A task with the settings of its YAML; a setting that is not given keeps its default.

    Raises:
        ValueError: an unknown task or setting, or a value that it refuses.
    """
    cls = task_class(name)
    full = defaults_of(cls) | settings
    check(cls, full)
    recipe = Recipe(**{f.name: full.pop(f.name) for f in fields(Recipe)})
    return cls(recipe, **full)


def task_to_plan(name: str, settings: dict[str, Any]) -> Task | None:
    """Build the task for planning; None if a plugin fails, so that training reports the error.

    Raises:
        ValueError: the task refuses its settings, or the data that are there.
        TypeError: raised by a plugin.
    """
    try:
        with foreign_code():
            task = build_task(name, settings)
            return None if why_no_task(task) else task
    except (ValueError, TypeError):
        raise
    except Exception as error:
        if not task_class(name).__module__.startswith(f"{__package__}."):
            return None
        if isinstance(error, OSError):
            raise ValueError(f"its data cannot be read: {error.strerror}.") from error
        raise


_ATTRIBUTES = (
    ("num_classes", Integral, "the number of possible answers, set in __post_init__"),
    ("seq_len", Integral, "the tokens of an example, a setting or set in __post_init__"),
    ("guess", str, "the answer that ignores the input, in words"),
)
"""Attributes that every task has: name, type, and what each is."""


def why_no_task(task: Task) -> str | None:
    """First member of the wrong kind, as a sentence; None if all are right."""
    for what, kind, is_a in _ATTRIBUTES:
        if not isinstance(value := getattr(task, what, None), kind):
            of = f"{what} of type {type(value).__name__}" if hasattr(task, what) else f"no {what}"
            return f"the task {task.name} has {of}; it is {is_a}"
    why, files = task.why_no_data(), task.files()
    are_files = isinstance(files, (tuple, list)) and all(isinstance(f, Path) for f in files)
    rules = (
        (isinstance(task.recipe, Recipe), "recipe", task.recipe, "the Recipe that it was given"),
        (isinstance(task.geometry, Geometry), "geometry", task.geometry, "a property, a Geometry"),
        (are_files, "files()", files, "a tuple of paths"),
        (why is None or isinstance(why, str), "why_no_data()", why, "a sentence or None"),
    )
    for is_kept, what, value, is_a in rules:
        if not is_kept:
            return f"the task {task.name} has {what} of type {type(value).__name__}; it is {is_a}"
    return None


def token_table(vocab_size: int, embed_dim: int) -> nn.Embedding:
    """One learned vector per token, fit to be the head as well: logits are of order 1."""
    table = nn.Embedding(vocab_size, embed_dim)
    nn.init.normal_(table.weight, std=embed_dim**-0.5)
    return table
