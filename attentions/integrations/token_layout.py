"""Known facts about the tokens at a place in a model, and a geometry that names unknown ones.

Many mechanisms never ask how many tokens there are or where they lie; those work anywhere. One
that asks what nobody knows gets a ValueError, not a guess.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from ..base import Geometry


class PatchGrid:
    """Rows and columns of a vision transformer's patches, as its last image had them.

    Args:
        patch_embed: turns an image into patches and knows their ``grid_size``.
        varies: whether images of any size are taken; the grid is then read off each call, once
            `watch` was called.
    """

    def __init__(self, patch_embed: nn.Module, *, varies: bool) -> None:
        self.patch_embed = patch_embed
        self.varies = varies
        self.last: tuple[int, int] | None = None

    @classmethod
    def of(cls, patch_embed: nn.Module, *, varies: bool) -> PatchGrid:
        """The one that watches these patches already, or a new one."""
        owners = (getattr(hook, "__self__", None) for hook in patch_embed._forward_hooks.values())
        watching = (owner for owner in owners if isinstance(owner, cls))
        return next(watching, None) or cls(patch_embed, varies=varies)

    def watch(self) -> None:
        """Follow the images, if they vary. The model is not touched before."""
        hooks = self.patch_embed._forward_hooks.values()
        if self.varies and self._look not in hooks:
            self.patch_embed.register_forward_hook(self._look)

    def _look(self, module: nn.Module, images: Any, patches: Tensor) -> None:
        self.last = (patches.shape[1], patches.shape[2])  # (B, rows, columns, C)

    def __call__(self) -> tuple[int, int]:
        """(rows, columns)."""
        rows, columns = self.last or self.patch_embed.grid_size  # type: ignore[misc]
        return int(rows), int(columns)


@dataclass(frozen=True, kw_only=True)
class TokenLayout:
    """The tokens that an attention gets.

    Attributes:
        seq_len: how many there are, or at most; None if not known.
        grid: gives rows and columns; None if not known.
        num_prefix_tokens: how many stand before those on the grid, as a class token does.
    """

    seq_len: int | None = None
    grid: PatchGrid | tuple[int, int] | None = None
    num_prefix_tokens: int = 0

    def __post_init__(self) -> None:
        if self.grid is None or isinstance(self.grid, PatchGrid):
            return
        sides = self.grid if isinstance(self.grid, tuple | list) else ()
        if len(sides) != 2 or not all(type(side) is int and side >= 1 for side in sides):
            raise ValueError(
                f"grid is {self.grid!r}; two whole numbers of 1 or more, (rows, columns), are "
                "needed."
            )

    @property
    def why_no_length(self) -> str | None:
        """A reason, None if the length is known."""
        if self.seq_len is not None:
            return None
        return "the number of tokens is not known here; give it as seq_len=."

    @property
    def why_no_grid(self) -> str | None:
        """A reason, None if all tokens lie on a known grid."""
        if self.num_prefix_tokens:
            count = self.num_prefix_tokens
            before = "a token stands" if count == 1 else f"{count} tokens stand"
            return (
                f"all tokens must lie on a grid, and here {before} before it; build the model "
                "without (in timm class_token=False, reg_tokens=0, global_pool='avg')."
            )
        if self.grid is None:
            return "the grid of the tokens is not known here; give it as grid=(rows, columns)."
        return None

    def current_grid(self) -> tuple[int, int]:
        """(rows, columns) of the tokens that are being mixed."""
        assert self.grid is not None
        return self.grid() if isinstance(self.grid, PatchGrid) else self.grid


class UnknownLayout(ValueError):
    """A mechanism needs what is not known about the tokens."""


class PlacedGeometry(Geometry):
    """A geometry at a place in a model: its grid follows the images, and unknowns are refused.

    Made by `placed`. Only mechanisms that ask for ``seq_len`` or ``grid`` depend on them.
    """

    layout: TokenLayout | None = None  # None while the sizes are being checked
    mechanism: str = ""

    @property
    def seq_len(self) -> int:
        """N as it was when the model was changed."""
        if self.layout is not None and (why := self.layout.why_no_length):
            raise UnknownLayout(f"{self.mechanism}: {why}")
        length: int = self.__dict__["seq_len"]
        return length

    @seq_len.setter
    def seq_len(self, value: int) -> None:
        self.__dict__["seq_len"] = value

    @property
    def grid(self) -> tuple[int, int]:
        """(rows, columns) as they are now."""
        if self.layout is None:
            checked: tuple[int, int] = self.__dict__["grid"]
            return checked
        if why := self.layout.why_no_grid:
            raise UnknownLayout(f"{self.mechanism}: {why}")
        return self.layout.current_grid()

    @grid.setter
    def grid(self, value: tuple[int, int]) -> None:
        self.__dict__["grid"] = value


def placed(layout: TokenLayout, mechanism: str, **sizes: Any) -> Geometry:
    """A geometry for a layout; the sizes are those of `Geometry` but for the two it knows."""
    on_grid = layout.why_no_grid is None
    seq_len, grid = layout.seq_len, layout.current_grid() if on_grid else (0, 0)
    if seq_len is None:
        seq_len = grid[0] * grid[1] if on_grid else 1
    if not (isinstance(layout.grid, PatchGrid) or layout.why_no_length or layout.why_no_grid):
        return Geometry(seq_len=seq_len, grid=grid, **sizes)
    geometry = PlacedGeometry(seq_len=seq_len, grid=grid, **sizes)
    object.__setattr__(geometry, "mechanism", mechanism)
    object.__setattr__(geometry, "layout", layout)
    return geometry
