"""How tokens lie at each attention of a model: by what the user says, or the modules around it."""

from __future__ import annotations

import sys
from typing import Any

from torch import nn

from .token_layout import PatchGrid, TokenLayout

_ONE_GRID = (
    ("timm.models.vision_transformer", "VisionTransformer"),
    ("timm.models.eva", "Eva"),
)
"""Where timm keeps models whose tokens lie on the grid of their patches in every layer."""


class Layouts:
    """Token layouts declared by the modules around an attention; the user's own win."""

    def __init__(self, model: nn.Module, given: TokenLayout) -> None:
        self.model, self.given = model, given
        self.is_given = given.seq_len is not None or given.grid is not None
        self.known: dict[str, TokenLayout] = {}

    def watch(self) -> None:
        """Let the grids follow the images, now that the model is changed."""
        for layout in self.known.values():
            if isinstance(layout.grid, PatchGrid) and not self.is_given:
                layout.grid.watch()

    def at(self, name: str) -> TokenLayout:
        """Layout of the tokens that the attention of this dotted name gets.

        Raises:
            ValueError: the user's grid has another area than the model's tokens need.
        """
        if not self.is_given:
            return self._found_at(name)
        _check_area(self.given, self._found_at(name), name)
        return self.given

    def _found_at(self, name: str) -> TokenLayout:
        parents = name.split(".")[:-1]
        for depth in range(len(parents), -1, -1):
            path = ".".join(parents[:depth])
            around = self.model.get_submodule(path)
            if _is_vision_transformer(around):
                if path not in self.known:
                    self.known[path] = _vision_layout(around)
                return self.known[path]
        return TokenLayout()


def _check_area(given: TokenLayout, found: TokenLayout, name: str) -> None:
    """Refuse a grid that not all tokens fill, where their number is known and stays."""
    varies = isinstance(found.grid, PatchGrid) and found.grid.varies
    if given.grid is None or given.seq_len is not None or found.seq_len is None or varies:
        return
    rows, columns = given.current_grid()
    if rows * columns != found.seq_len:
        raise ValueError(
            f"grid is {rows}x{columns}, and {name or 'the model'} gets {found.seq_len} tokens; "
            "rows times columns must be their number."
        )


def _is_vision_transformer(module: nn.Module) -> bool:
    """Timm's classes of one grid throughout. In its pyramids the first says nothing of others."""
    homes = ((sys.modules.get(home), name) for home, name in _ONE_GRID)
    classes = tuple(getattr(home, name) for home, name in homes if hasattr(home, name))
    return isinstance(module, classes)


def _vision_layout(transformer: Any) -> TokenLayout:
    patches, prefix = transformer.patch_embed, transformer.num_prefix_tokens
    if patches.grid_size is None:
        return TokenLayout(num_prefix_tokens=prefix)
    rows, columns = patches.grid_size
    grid = PatchGrid.of(patches, varies=transformer.dynamic_img_size)
    return TokenLayout(seq_len=rows * columns + prefix, grid=grid, num_prefix_tokens=prefix)
