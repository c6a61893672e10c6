"""The sizes that a mechanism is built for, and those of one call."""

from __future__ import annotations

import math
from dataclasses import dataclass, field


def most_square_grid(seq_len: int) -> tuple[int, int]:
    """(rows, columns) with rows * columns == seq_len, rows <= columns and rows the largest such.

    >>> most_square_grid(48)
    (6, 8)
    """
    rows = next(r for r in range(math.isqrt(seq_len), 0, -1) if seq_len % r == 0)
    return rows, seq_len // rows


@dataclass(frozen=True, kw_only=True)
class Geometry:
    """The shape that a mechanism is built for.

    >>> geometry = Geometry(num_heads=4, head_dim=16, seq_len=48)
    >>> geometry.embed_dim, geometry.value_dim, geometry.grid
    (64, 16, (6, 8))

    Attributes:
        num_heads: H.
        head_dim: D, the channels of one head's queries and keys.
        seq_len: N, the number of tokens; an upper bound for mechanisms that take any length.
        value_dim: E, the channels of one head's values; D unless given.
        causal: whether query i may see keys 0..i only.
        grid: (rows, columns) of the tokens; the most square factorisation of N unless given.
        num_kv_heads: H_kv, heads of keys and values, each shared by H / H_kv query heads; H
            unless given.
        num_value_heads: heads of values, gates and outputs, a multiple of H, where each head of
            queries and keys serves several of them; 0 for as many as of keys.

    Raises:
        ValueError: a size below 1 or of 2^31 or more, a grid whose area is not ``seq_len``, or
            heads that cannot be shared evenly.
    """

    num_heads: int
    head_dim: int
    seq_len: int
    value_dim: int = 0
    causal: bool = False
    grid: tuple[int, int] = field(default=(0, 0))
    num_kv_heads: int = 0
    num_value_heads: int = 0

    def __post_init__(self) -> None:
        if self.value_dim == 0:
            object.__setattr__(self, "value_dim", self.head_dim)
        if self.num_kv_heads == 0:
            object.__setattr__(self, "num_kv_heads", self.num_heads)
        for name in ("num_heads", "head_dim", "seq_len", "value_dim", "num_kv_heads"):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise ValueError(
                    f"Geometry.{name} is {value!r}; a whole number of 1 or more is needed."
                )
            if value >= 2**31:  # a search for the grid would also try billions of sides
                raise ValueError(f"Geometry.{name} is {value!r}; less than 2^31 is needed.")
        if self.num_heads % self.num_kv_heads:
            raise ValueError(
                f"Geometry.num_kv_heads is {self.num_kv_heads}; a divisor of num_heads, "
                f"{self.num_heads}, is needed, so that heads are shared evenly."
            )
        more = self.num_value_heads
        is_size = isinstance(more, int) and not isinstance(more, bool) and 0 <= more < 2**31
        if not is_size or more % self.num_heads or (more and self.num_kv_heads != self.num_heads):
            raise ValueError(
                f"Geometry.num_value_heads is {more!r}; a multiple of num_heads, {self.num_heads}, "
                f"is needed, with as many heads of keys as of queries, or 0."
            )
        if not isinstance(self.causal, bool):
            raise ValueError(f"Geometry.causal is {self.causal!r}; True or False is needed.")
        object.__setattr__(self, "grid", self._sides())

    def _sides(self) -> tuple[int, int]:
        """(rows, columns) as given, or the most square."""
        if not self.grid:
            return most_square_grid(self.seq_len)
        sides = tuple(self.grid) if isinstance(self.grid, tuple | list) else (self.grid,)
        if sides == (0, 0):
            return most_square_grid(self.seq_len)
        are_sizes = len(sides) == 2 and all(type(side) is int and side >= 1 for side in sides)
        if not are_sizes or math.prod(sides) != self.seq_len:
            given = "x".join(map(str, sides))
            raise ValueError(
                f"Geometry.grid is {given}; two whole numbers of 1 or more are needed, whose "
                f"product is seq_len, {self.seq_len}."
            )
        return sides  # type: ignore[return-value]  # two, as was checked

    @property
    def embed_dim(self) -> int:
        """C = H * D."""
        return self.num_heads * self.head_dim


@dataclass(frozen=True, kw_only=True)
class CallShape:
    """The sizes of one call, from which its cost follows.

    >>> sizes = dict(query_len=3, key_len=3, head_dim=8, value_dim=8)
    >>> CallShape(batch_size=1, num_heads=2, **sizes).num_pairs
    18
    >>> CallShape(batch_size=1, num_heads=2, causal=True, **sizes).num_pairs
    12
    """

    batch_size: int
    num_heads: int
    query_len: int
    key_len: int
    head_dim: int
    value_dim: int
    causal: bool = False

    @property
    def num_pairs(self) -> int:
        """Query-key pairs that are allowed, over batch and heads; N (N + 1) / 2 each if causal."""
        pairs = self.query_len * self.key_len
        if self.causal:
            pairs = self.query_len * (self.query_len + 1) // 2
        return self.batch_size * self.num_heads * pairs

    @property
    def num_tokens(self) -> int:
        """Queries over batch and heads."""
        return self.batch_size * self.num_heads * self.query_len

    @property
    def num_keys(self) -> int:
        """Keys over batch and heads."""
        return self.batch_size * self.num_heads * self.key_len
