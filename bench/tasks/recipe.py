"""The model around a mechanism and its training, and how settings are refused."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bench.tasks.positions import POSITIONS


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """The model around a mechanism and its training: the same for every mechanism of a task.

    Attributes:
        embed_dim: channels of a token.
        num_heads: heads that share them.
        num_layers: blocks.
        softmax_layers: blocks of these that mix by softmax whatever the mechanism is, evenly spaced
            with the last one among them; 0 is the mechanism alone, num_layers softmax alone.
        conv_width: tokens that a block's depthwise convolution sees, an odd number; at 0 or 1 there
            is none. They lie to both sides, or, in a causal model, all in the past.
        mlp_ratio: hidden channels of a block's MLP, per channel of a token; at 0 there is none.
        match: ``none``; or ``params``, ``flops`` or ``state``: one size of each model is set so
            that all cost the same, see `bench.tasks.match`.
        position: ``learned``, a vector for each place; ``rope``, queries and keys that are turned;
            or ``none``.
        position_std: spread of the learned positions before training.
        head_norm: whether each head's output is divided by its root mean square, with a learned
            scale per channel, before the output projection. A layer with projections of its own
            has its own norms and is left as it is.
        linear_std: standard deviation of the normal distribution from which all weights of linear
            maps are first drawn; at 0 they keep the distribution that torch gives them.
        num_steps: parameter updates.
        patience: part of all steps within which a run must improve by a point, or it ends at its
            plateau; at 1 it goes through its whole cosine, whose end often brings points.
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
    softmax_layers: int = 0
    conv_width: int = 3
    mlp_ratio: float = 2
    match: str = "none"
    position: str = "learned"
    position_std: float = 0.02
    head_norm: bool = False
    linear_std: float = 0.0
    num_steps: int = 600
    patience: float = 0.25
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
        whole_number("softmax_layers", self.softmax_layers, at_least=0)
        if self.softmax_layers > self.num_layers:
            raise ValueError(
                f"softmax_layers is {self.softmax_layers} and num_layers is {self.num_layers}; "
                "a model has at most as many softmax layers as layers."
            )
        one_of("match", self.match, ("none", "params", "flops", "state"))
        if self.softmax_layers and self.match != "none":
            raise ValueError(
                f"match is {self.match!r} and softmax_layers is {self.softmax_layers}; the size of "
                "a hybrid is not matched: set one of them to its default."
            )
        one_of("position", self.position, POSITIONS)
        for name in ("learning_rate", "max_grad_norm"):
            number(name, getattr(self, name), "a number above 0", lambda x: 0 < x < math.inf)
        yes_or_no("head_norm", self.head_norm)
        for name in ("mlp_ratio", "position_std", "linear_std", "weight_decay"):
            number(name, getattr(self, name), "a number of 0 or more", lambda x: 0 <= x < math.inf)
        number("patience", self.patience, "a number above 0, up to 1", lambda x: 0 < x <= 1)
        number("warmup_share", self.warmup_share, "a number from 0 to 1", lambda x: 0 <= x <= 1)
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
    def mlp_width(self) -> int:
        """Hidden channels of a block's MLP, one at least if there is one."""
        return max(round(self.embed_dim * self.mlp_ratio), 1) if self.mlp_ratio else 0

    @property
    def reach(self) -> int:
        """Tokens to either side of which the model learns by its convolutions alone."""
        return self.num_layers * (self.conv_width // 2)


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


def number(name: str, value: object, allowed: str, is_allowed: Callable[[float], bool]) -> None:
    """Refuse a setting that is no number, or not an allowed one.

    Raises:
        ValueError: names the setting, what was given and what is allowed.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not is_allowed(value):
        raise ValueError(f"{name} is {value!r}; {allowed} is needed.")
