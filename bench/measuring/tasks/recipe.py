"""Settings of a task: ranges as types, the recipe that all tasks share, and their one check."""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cache
from typing import Annotated, Any, Literal, get_type_hints

from annotated_types import MultipleOf

from bench.core.cli.errors import ConfigError
from bench.core.cli.limits import MAX_SIZE, Amount, Count, Rate, Share, Size
from bench.core.settings import Interval, Settings

AtLeast2 = Annotated[int, Interval(ge=2, le=MAX_SIZE)]
Even = Annotated[int, Interval(ge=2, le=MAX_SIZE), MultipleOf(2)]
PartOf1 = Annotated[float, Interval(gt=0, le=1)]
"""A share that is not 0."""

FALLEN = 0.1
"""The part of its peak to which a learning rate falls before a plateau may end a run."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """The model around a mechanism and its training: the same for every mechanism of a task.

    Raises:
        ValueError: settings that do not go together; the message names them. Types and ranges are
            checked by `bench.measuring.tasks.base.build_task`.
    """

    embed_dim: Size = 64
    """Channels of a token."""
    num_heads: Size = 4
    """Heads that share them."""
    num_layers: Size = 2
    """Blocks."""
    softmax_layers: Count = 0
    """Blocks of these that mix by softmax whatever the mechanism is, evenly spaced with the last
    one among them; 0 is the mechanism alone, num_layers softmax alone."""
    conv_width: Count = 3
    """Tokens that a block's depthwise convolution sees, an odd number; at 0 or 1 there is none.
    They lie to both sides, or, in a causal model, all in the past."""
    mlp_ratio: Amount = 2
    """Hidden channels of a block's MLP, per channel of a token; at 0 there is none."""
    match: Literal["none", "params", "flops", "state"] = "none"
    """Cost of which one size of each model is set so that all have the same, see
    `bench.measuring.tasks.match`."""
    position: Literal["learned", "rope", "none"] = "learned"
    """``learned``, a vector for each place; ``rope``, turned queries and keys; or ``none``."""
    position_std: Amount = 0.02
    """Spread of the learned positions before training."""
    head_norm: bool = False
    """Whether each head's output is divided by its root mean square, with a learned scale per
    channel, before the output projection. A layer with projections of its own has its own norms
    and is left as it is."""
    linear_std: Amount = 0.0
    """Standard deviation of the normal distribution from which all weights of linear maps are first
    drawn; at 0 they keep the distribution that torch gives them."""
    num_steps: Size = 600
    """Parameter updates."""
    patience: PartOf1 = 0.25
    """Part of all steps within which a run must improve by a point, or it ends at its plateau; at 1
    it goes through its whole cosine, whose end often brings points."""
    batch_size: Size = 64
    """Training examples in each."""
    learning_rate: Rate = 3e-3
    """Rate at its peak; a linear warm-up leads there, a half cosine from there to 0."""
    warmup_share: Share = 0.1
    """Part of the steps that warms up."""
    weight_decay: Amount = 0.01
    """Decay of AdamW, decoupled from the gradient."""
    max_grad_norm: Rate = 1.0
    """Norm to which a longer gradient is shortened."""

    def __post_init__(self) -> None:
        if self.softmax_layers > self.num_layers:
            raise ValueError(
                f"softmax_layers is {self.softmax_layers} and num_layers is {self.num_layers}; "
                "a model has at most as many softmax layers as layers."
            )
        if self.softmax_layers and self.match != "none":
            raise ValueError(
                f"match is {self.match!r} and softmax_layers is {self.softmax_layers}; the size of "
                "a hybrid is not matched: set one of them to its default."
            )
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
    def is_softmax(self) -> tuple[bool, ...]:
        """Whether each block mixes by softmax whatever the mechanism is, from the first on."""
        last = {
            (place + 1) * self.num_layers // self.softmax_layers - 1
            for place in range(self.softmax_layers)
        }
        return tuple(layer in last for layer in range(self.num_layers))

    @property
    def fallen_at(self) -> int:
        """The first step after the peak at which the learning rate is `FALLEN` of it, or less."""
        warmup = self.warmup_share * self.num_steps
        share = math.acos(2 * FALLEN - 1) / math.pi  # of the half cosine
        return math.ceil(1 + warmup + share * (self.num_steps - warmup))

    @property
    def mlp_width(self) -> int:
        """Hidden channels of a block's MLP, one at least if there is one."""
        return max(round(self.embed_dim * self.mlp_ratio), 1) if self.mlp_ratio else 0

    @property
    def reach(self) -> int:
        """Tokens to either side of which the model learns by its convolutions alone."""
        return self.num_layers * (self.conv_width // 2)


def whole_number(name: str, value: object, *, at_least: int = 1) -> None:
    """Refuse a setting that is no whole number or, beside the other settings, too small.

    Raises:
        ValueError: names the setting, what was given and what is allowed.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < at_least:
        raise ValueError(f"{name} is {value!r}; a whole number of {at_least} or more is needed.")


def defaults_of(task: type[Any]) -> dict[str, Any]:
    """Each setting of a task's class with its default: the task's own, then the recipe."""
    own = {p.name: None if p.default is p.empty else p.default for p in _own(task)}
    return own | {f.name: getattr(task.default_recipe, f.name) for f in fields(Recipe)}


def check(task: type[Any], settings: Mapping[str, Any]) -> None:
    """Refuse settings of another type or range than the class's annotations say.

    Raises:
        ValueError: a sentence for each, with its name, its value and what is allowed.
    """
    try:
        _model_of(task).section(settings, "")  # type: ignore[arg-type]
    except ConfigError as error:
        raise ValueError(str(error)) from None


def _own(task: type[Any]) -> list[inspect.Parameter]:
    """Arguments of the constructor besides the recipe."""
    return list(inspect.signature(task.__init__).parameters.values())[2:]  # self and recipe


@cache
def _model_of(task: type[Any]) -> type[Settings]:
    """The rules of all settings; a name without an annotation that can be read takes anything."""
    maker = next(cls for cls in task.__mro__ if "__init__" in vars(cls))
    is_written = "__dataclass_params__" not in vars(maker)
    try:
        hints = get_type_hints(task.__init__ if is_written else task, include_extras=True)
    except NameError:  # such as what a plugin imports for its type checker alone
        hints = {}
    types = {p.name: hints.get(p.name, Any) for p in _own(task)}
    types |= {p.name: types[p.name] | None for p in _own(task) if p.default is None}
    return Settings.of_types(task.__name__, types | get_type_hints(Recipe, include_extras=True))
