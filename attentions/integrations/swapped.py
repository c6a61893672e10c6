"""A module that replaces a model's attention: its projections around another core."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ..base import Attention
from ..maths.shared_heads import SharedHeads
from ..registry import attention_class, attention_names, build_attention, hyperparameters
from .swap_masks import mix
from .token_layout import PatchGrid, TokenLayout, UnknownLayout, placed


@dataclass(frozen=True, kw_only=True)
class Wish:
    """Requested replacement of an attention.

    Attributes:
        mechanism: registered name of a core.
        causal: whether it is built to hide later keys.
        settings: its hyperparameters, those that differ from the defaults.
    """

    mechanism: str
    causal: bool = False
    settings: Mapping[str, Any] = field(default_factory=dict)

    def for_layout(self, layout: TokenLayout) -> Wish:
        """With all hyperparameters: one token before the grid is a class token, if that is known.

        Raises:
            TypeError: a hyperparameter that the mechanism does not take, at `build`.
        """
        settings = {**hyperparameters(self.mechanism), **self.settings}
        if layout.num_prefix_tokens == 1 and "class_token" in settings:
            settings["class_token"] = self.settings.get("class_token", True)
        return replace(self, settings=settings)

    def build(self, layout: TokenLayout, **sizes: int) -> Attention:
        """The core, for tokens that lie so.

        Args:
            layout: of the tokens.
            sizes: of the heads, as `Geometry` names them.

        Raises:
            ValueError: a hyperparameter or a size that the mechanism refuses.
            TypeError: a hyperparameter that it does not take.
        """
        geometry = placed(layout, self.mechanism, causal=self.causal, **sizes)
        own_heads = placed(
            layout,
            self.mechanism,
            causal=self.causal,
            **{**sizes, "num_kv_heads": geometry.num_heads},
        )
        core = build_attention(self.mechanism, own_heads, **self.settings)
        shares = geometry.num_kv_heads != geometry.num_heads
        return SharedHeads(core, geometry) if shares else core

    def __str__(self) -> str:
        causal = {"causal": True} if self.causal else {}
        values = {**causal, **self.settings}
        return ", ".join([self.mechanism, *(f"{name}={value!r}" for name, value in values.items())])


def why_gated(mechanism: str) -> str:
    """Why a core with gates cannot stand inside a model's attention; empty for one without."""
    gates = attention_class(mechanism).capabilities.gates
    if not gates:
        return ""
    own = f"{mechanism}_layer"
    computes = f"{own!r} is a layer that does, in the place of the whole attention"
    takes = f"build_layer({mechanism!r}, ...) makes a layer that takes them by name"
    return (
        f"needs {' and '.join(gates)} for every token, which the model does not compute; "
        f"{computes if own in attention_names() else takes}"
    )


_HOOKS = (
    "_forward_hooks",
    "_forward_hooks_with_kwargs",
    "_forward_hooks_always_called",
    "_forward_pre_hooks",
    "_forward_pre_hooks_with_kwargs",
    "_backward_hooks",
    "_backward_pre_hooks",
    "_is_full_backward_hook",
)
"""Where torch keeps what a user wants to be called with a module."""


class Swapped(nn.Module):
    """The part that does not depend on whose attention it was.

    Args:
        wish: what is built.
        layout: of the tokens.
        place: dotted name in the model, for messages.
        like: a weight of the old attention, for device and dtype.
        sizes: of the heads, as `Geometry` names them.
    """

    kind: ClassVar[str]

    def __init__(
        self, wish: Wish, layout: TokenLayout, place: str, *, like: Tensor, **sizes: int
    ) -> None:
        super().__init__()
        self.wish, self.layout, self.place = wish.for_layout(layout), layout, place
        with torch.device("cpu"):  # whatever the default device is, meta among them
            core = self.wish.build(layout, **sizes)
            if layout.why_no_grid is not None:
                _ask_for_grid(core, self.wish)
        self.core = core.to(device=like.device, dtype=like.dtype)
        needs_grid = self.core.capabilities.needs_grid and isinstance(layout.grid, PatchGrid)
        self.built_grid = layout.current_grid() if needs_grid else None

    @staticmethod
    @abstractmethod
    def is_kind(module: nn.Module) -> bool:
        """Whether this stands for such a module, or did already."""

    @staticmethod
    @abstractmethod
    def dropout_of(module: Any) -> float:
        """The share of weights that the old attention dropped while training."""

    def mix(self, q: Tensor, k: Tensor, v: Tensor, keep: Tensor | None, is_causal: bool) -> Tensor:
        """(B, H, N, D), (B, H, M, D), (B, H, M, E) -> (B, H, N, E); see `_swap_masks.mix`."""
        self._check_grid()
        if self.core.capabilities.memory_layout == "bhnd":
            q, k, v = q.contiguous(), k.contiguous(), v.contiguous()
        return mix(self.core, q, k, v, keep=keep, is_causal=is_causal, place=self.place)

    def _check_grid(self) -> None:
        """A mechanism that needs a grid may have parameters for one; an area alone says little."""
        if self.built_grid is None:
            return
        assert isinstance(self.layout.grid, PatchGrid)
        now = self.layout.grid()
        if now != self.built_grid:
            built, given = ("x".join(map(str, grid)) for grid in (self.built_grid, now))
            raise ValueError(
                f"{self.core.name} at {self.place}: it was built for a grid of {built}, and this "
                f"image gives {given}."
            )

    def follow(self, old: nn.Module) -> None:
        """Train or not as the old attention did, and call what hooks were registered on it.

        The parts taken over keep their own modes.
        """
        self.training = old.training
        self.core.train(old.training)
        for name in _HOOKS:
            if hasattr(old, name):
                setattr(self, name, getattr(old, name))  # the same, so that handles still remove

    def extra_repr(self) -> str:
        """The mechanism and its hyperparameters, as they are printed with the model."""
        return str(self.wish)


def _ask_for_grid(core: Attention, wish: Wish) -> None:
    """Refuse now, not at the first call, a mechanism that needs a grid when none is known.

    Raises:
        UnknownLayout: it does.
    """
    if not (core.capabilities.needs_grid or "rope" in wish.settings):
        return
    sizes = core.geometry
    q = torch.zeros(1, sizes.num_heads, 1, sizes.head_dim)
    k = torch.zeros(1, sizes.num_kv_heads, 1, sizes.head_dim)
    v = torch.zeros(1, sizes.num_kv_heads, 1, sizes.value_dim)
    try:
        with torch.no_grad():
            core(q, k, v)
    except UnknownLayout:
        raise
    except ValueError:  # one token is too few for it; that says nothing of the model's
        return
