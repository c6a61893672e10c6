"""State tracking: the product so far of the elements of a group, at every token."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Literal

import torch
from torch import Tensor

from bench.measuring.tasks.base import (
    AtLeast2,
    Batch,
    Recipe,
    Split,
    register_task,
)
from bench.measuring.tasks.generated import Generated, everywhere

Permutation = tuple[int, ...]
"""Image of each point."""

MAX_ORDER = 1000
"""Largest group, in elements: its products are computed when the task is built."""
_NUM_POINTS = 6
"""Points whose images tell the elements apart: all of S6, more than enough for rotations."""


@dataclass(frozen=True, kw_only=True)
class Group:
    """A finite group of permutations.

    Attributes:
        elements: (G, n), the image of each point, in lexicographic order: the identity is first.
        generators: numbers of the named generating set.
    """

    elements: Tensor
    generators: tuple[int, ...]

    @property
    def order(self) -> int:
        """Number of elements."""
        return len(self.elements)

    def products(self, right: Tensor) -> Tensor:
        """(T,) element numbers -> (G, T), the number of each element followed by each of them."""
        points = self.elements[:, :_NUM_POINTS]
        images = self.elements[right][:, points].transpose(0, 1)  # (G, T, points)
        return torch.searchsorted(self._codes(points), self._codes(images))

    def is_odd(self) -> Tensor:
        """(G,), whether each element is a product of an odd number of swaps."""
        pairs = self.elements.unsqueeze(2) > self.elements.unsqueeze(1)
        return pairs.triu(1).sum(dim=(1, 2)) % 2 == 1

    def _codes(self, images: Tensor) -> Tensor:
        """(..., points) -> (...), numbers in lexicographic order, one for each element."""
        base, num = self.elements.shape[1], images.shape[-1]
        return (images * torch.tensor([base**place for place in range(num)][::-1])).sum(dim=-1)


@register_task("word_problem")
@dataclass(kw_only=True, eq=False)
class WordProblem(Generated):
    """Read elements of a group; at each, answer with the product of all elements so far.

    The word problem as a test of state tracking: Merrill, Petty and Sabharwal, 2024,
    arXiv:2404.08819; Grazzi et al., 2024, arXiv:2411.12537. A product cannot be read off any
    single token, and in a group that is not abelian it depends on the order of all of them.

    Tokens are the identity and a generating set: of Z<n> the step +1, of D<n> a rotation and a
    reflection, of S<n> all swaps, of A<n> all 3-cycles; with ``elements=all`` the tokens are all
    elements. Trained at `seq_len`, scored at 2, 4 and 8 times that length too.

    Models are trained on every answer. The first ones can be read off a few tokens, so a model that
    tracks nothing gets some of them right; `scored=last_quarter` leaves them out of every score.

    Raises:
        ValueError: no such group, or one of more than 1,000 elements.
    """

    group: str = "S3"
    """Z<n>, D<n>, S<n> or A<n>."""
    elements: Literal["generators", "all"] = "generators"
    """The tokens: generators of the group, or all its elements."""
    seq_len: AtLeast2 = 32
    """N, tokens of a training example; each of them has an answer."""
    scored: Literal["all", "last_quarter"] = "all"
    """The answers that count in a score; records without this setting counted all of them."""
    num_train_examples: int = field(init=False, default=0)

    default_recipe = Recipe(
        num_layers=1,
        conv_width=0,
        position="none",
        head_norm=True,
        num_steps=600,
        batch_size=64,
        learning_rate=3e-3,
    )
    guess = "the likeliest element at each place"
    causal = True
    length_factors = (2, 4, 8)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.named = named_group(self.group)
        every = self.elements == "all"
        chosen = range(1, self.named.order) if every else self.named.generators
        self.tokens = torch.tensor([0, *chosen])  # (T,), the element that each token stands for
        self.leads_to = self.named.products(self.tokens)  # (G, T)
        self.vocab_size = len(self.tokens)
        self.num_classes = self.named.order

    def draw(self, count: int, split: Split, stream: torch.Generator) -> Batch:
        """Random tokens, each as likely; only scored answers are asked for outside training."""
        inputs = torch.randint(self.vocab_size, (count, self.seq_len), generator=stream)
        batch = Batch(inputs=inputs, targets=self.products(inputs), positions=everywhere(inputs))
        return self.as_scored(batch) if split is Split.TEST else batch

    def as_scored(self, batch: Batch) -> Batch:
        """The same examples with the answers that count in a score."""
        targets, positions = batch.targets, everywhere(batch.inputs)
        scored = slice(self.first_scored, None)
        return replace(batch, targets=targets[:, scored], positions=positions[:, scored])

    def products(self, inputs: Tensor) -> Tensor:
        """(B, N) tokens -> (B, N), the number of the product of each token and all before it."""
        state = torch.zeros(len(inputs), dtype=torch.long)
        so_far = []
        for token in inputs.unbind(dim=1):
            state = self.leads_to[state, token]
            so_far.append(state)
        return torch.stack(so_far, dim=1)

    @property
    def first_scored(self) -> int:
        """Number of places before the first one whose answer is scored."""
        return 0 if self.scored == "all" else self.seq_len - max(1, self.seq_len // 4)

    def chance(self) -> float:
        """The mean over scored places of the likeliest element's probability."""
        return float(self._probabilities().max(dim=1).values.mean())

    def plateaus(self) -> dict[str, float]:
        """The score of a model that knows only whether a permutation of S<n> is odd."""
        if not self.group.startswith("S") or self.named.order < 6:
            return {}
        at = self._probabilities()
        is_odd = self.named.is_odd()
        even, odd = at[:, ~is_odd], at[:, is_odd]
        known = even.max(dim=1).values + odd.max(dim=1).values
        return {"the sign of the permutation": float(known.mean())}

    def _probabilities(self) -> Tensor:
        """(scored places, G): how likely the product is each element."""
        rows = [torch.eye(self.named.order, dtype=torch.float64)[0]]
        for _ in range(self.seq_len):
            share = (rows[-1] / self.vocab_size)[:, None].expand(self.leads_to.shape)
            following = torch.zeros_like(rows[-1])
            rows.append(following.index_add(0, self.leads_to.flatten(), share.flatten()))
        return torch.stack(rows[1 + self.first_scored :])


@cache
def named_group(name: str) -> Group:
    """The group of a name such as S3: cyclic Z, dihedral D, symmetric S, alternating A.

    Raises:
        ValueError: no such group, or one of more than `MAX_ORDER` elements.
    """
    generators = _generators(name)
    elements = _closure(generators)
    return Group(
        elements=torch.tensor(elements),
        generators=tuple(elements.index(one) for one in generators),
    )


def _generators(name: str) -> list[Permutation]:
    """Permutations of the named generating set."""
    match = re.fullmatch(r"([ZDSA])([1-9]\d{0,2})", name)
    kind, n = (match[1], int(match[2])) if match else ("", 0)
    least, order = {
        "Z": (2, n),
        "D": (3, 2 * n),
        "S": (2, _factorial(n)),
        "A": (3, _factorial(n) // 2),
    }.get(kind, (0, 0))
    if n < least or not 0 < order <= MAX_ORDER:
        raise ValueError(
            f"group is {name!r}; Z2 to Z{MAX_ORDER - 1}, D3 to D{MAX_ORDER // 2}, S2 to S6 and A3 "
            "to A6 are allowed: cyclic, dihedral, symmetric and alternating groups."
        )
    rotation = tuple((point + 1) % n for point in range(n))
    if kind == "Z":
        return [rotation]
    if kind == "D":
        return [rotation, tuple(-point % n for point in range(n))]
    moved = (
        itertools.permutations(range(n), 3) if kind == "A" else itertools.combinations(range(n), 2)
    )
    return sorted({_cycle(points, n) for points in moved})


def _factorial(n: int) -> int:
    """n!, or more than `MAX_ORDER` twice over where n is large."""
    product = 1
    for factor in range(2, min(n, 8) + 1):
        product *= factor
    return product


def _cycle(points: Iterable[int], n: int) -> Permutation:
    """Permutation of n points that moves each of `points` to the next and the last to the first."""
    points = tuple(points)
    image = list(range(n))
    for point, following in zip(points, points[1:] + points[:1], strict=True):
        image[point] = following
    return tuple(image)


def _times(one: Permutation, other: Permutation) -> Permutation:
    """`one` first, then `other`."""
    return tuple(other[point] for point in one)


def _closure(generators: list[Permutation]) -> list[Permutation]:
    """All products of the generators, sorted; the identity comes first."""
    identity = tuple(range(len(generators[0])))
    known, new = {identity}, {identity}
    while new:
        new = {_times(one, step) for one in new for step in generators} - known
        known |= new
    return sorted(known)
