"""Visual associative recall: name the sign that stood beside the digit of this class."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from bench.measuring.tasks.base import Batch, Recipe, Size, distinct, register_task, whole_number
from bench.measuring.tasks.digits import NUM_CLASSES, NUM_PIXELS, images_by_class, noise
from bench.measuring.tasks.generated import Fresh, Part
from bench.measuring.tasks.images import patch_projection


@register_task("tile_recall")
@dataclass(kw_only=True, eq=False)
class TileRecall(Fresh):
    """Find the tile whose digit is of the first tile's class, and name the sign that it carries.

    Tiles of 8x8 pixels and one entry per sign are the tokens. `num_pairs` of them, at random
    places, hold a handwritten digit and a sign; classes differ, and so do signs. The first tile
    holds another image of one of these classes and no sign, the rest nothing, and over all lies
    noise. The answer is read at the first tile.

    So a model has to tell digits by their looks, compare tiles and fetch what belongs to one: signs
    alone score 1 / num_pairs. Signs must differ and the answer must not be read from the mean over
    tiles, or counting signs would help. Test images are those of `digits`, never trained on.

    This is a task of this harness; there are no published numbers.

    Raises:
        ValueError: more pairs than tiles, signs or classes.
    """

    num_tiles: Size = 16
    """N."""
    num_pairs: Size = 4
    """Tiles that hold a digit and a sign."""
    num_signs: Size = 8
    """Signs to choose from."""

    default_recipe = Recipe(
        position_std=0.3, conv_width=1, num_steps=800, batch_size=64, learning_rate=3e-3
    )
    guess = "any of the signs, each as likely"

    def __post_init__(self) -> None:
        super().__post_init__()
        whole_number("num_tiles", self.num_tiles, at_least=self.num_pairs + 1)
        whole_number("num_signs", self.num_signs, at_least=self.num_pairs)
        if self.num_pairs > NUM_CLASSES:
            raise ValueError(
                f"num_pairs is {self.num_pairs}; there are {NUM_CLASSES} classes only."
            )
        self.seq_len, self.num_classes = self.num_tiles, self.num_signs

    def make(self, count: int, part: Part, stream: torch.Generator) -> Batch:
        """Tiles at random places, the first of them the question."""
        pairs, each = self.num_pairs, torch.arange(count)
        classes = distinct(count, pairs, NUM_CLASSES, stream)
        signs = distinct(count, pairs, self.num_signs, stream)
        places = 1 + distinct(count, pairs, self.seq_len - 1, stream)
        asked = torch.randint(pairs, (count,), generator=stream)
        by_class, sizes = images_by_class(part)
        first = torch.randint(2**31, (count, pairs), generator=stream) % sizes[classes]
        own = classes[each, asked]
        step = 1 + torch.randint(2**31, (count,), generator=stream) % (sizes[own] - 1)
        another = (first[each, asked] + step) % sizes[own]  # never the same image
        size = (count, self.seq_len, NUM_PIXELS + self.num_signs)
        grain = noise(size, stream)
        tiles = torch.zeros(size)
        tiles[each[:, None], places, :NUM_PIXELS] = by_class[classes, first]
        tiles[each[:, None], places, NUM_PIXELS + signs] = 1
        tiles[each, 0, :NUM_PIXELS] = by_class[own, another]
        return Batch(
            inputs=2 * (tiles + grain) - 1,
            targets=signs[each, asked].unsqueeze(1),
            positions=torch.zeros(count, 1, dtype=torch.long),
        )

    def embedding(self, embed_dim: int) -> nn.Module:
        """A tile's pixels and sign, projected."""
        return patch_projection(NUM_PIXELS + self.num_signs, embed_dim)

    def plateaus(self) -> dict[str, float]:
        """Scores of models that find the signs and do not tell digits apart."""
        return {"one of the shown signs": 1 / self.num_pairs}
