"""The one interface: `Attention` mixes values, `AttentionLayer` owns its projections as well."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ._in_float64 import made_finite, was_looked_at
from ._overflow import bring_back, set_aside
from .capabilities import Capabilities
from .checks import equal_lengths
from .inputs import (
    check_devices,
    check_heads,
    check_tokens,
    keywords_of,
    refuse_unknown,
    with_checked_sizes,
    with_checked_tokens,
)


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
            if value >= 2**31:  # also, a grid would be looked for over billions of sides
                raise ValueError(f"Geometry.{name} is {value!r}; less than 2^31 is needed.")
        if self.num_heads % self.num_kv_heads:
            raise ValueError(
                f"Geometry.num_kv_heads is {self.num_kv_heads}; a divisor of num_heads, "
                f"{self.num_heads}, is needed, so that heads are shared evenly."
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


class Mechanism(nn.Module, ABC):
    """What cores and layers share: a geometry, and costs that follow from a shape.

    The class attributes are set by `register_attention`.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    source: ClassVar[str]
    family: ClassVar[str] = "other"
    capabilities: ClassVar[Capabilities]

    def __init__(self, geometry: Geometry) -> None:
        super().__init__()
        self.geometry = geometry
        can = self.capabilities
        if geometry.causal and not can.causal:
            raise ValueError(f"{self.name} has no causal form; build it with causal=False.")
        if not geometry.causal and not can.bidirectional:
            raise ValueError(f"{self.name} is causal only; build it with causal=True.")

    def __call__(self, *inputs: Any, **keywords: Any) -> Any:
        """Call `forward`.

        Raises:
            ValueError: tensors that do not fit the geometry, or each other; a dtype, a mask or a
                gate that the mechanism does not take.
        """
        if torch.compiler.is_compiling():
            return super().__call__(*inputs, **keywords)
        if keywords:
            refuse_unknown(self.name, keywords, _keywords_of(type(self)))
        self._check_inputs(inputs, keywords)
        aside = set_aside()
        out = super().__call__(*inputs, **keywords)
        if not (was_looked_at(out) or self._is_published):
            out = made_finite(self, out, inputs, keywords)
        bring_back(aside)
        return out

    @cached_property
    def _is_published(self) -> bool:
        """Whether operators are those of published code, which stay as they are.

        A layer's own, or those of what it is built around.
        """
        parts = (self, *vars(self).values(), *self.children())
        is_official = any(getattr(part, "implementation", None) == "official" for part in parts)
        return is_official or bool(self.capabilities.requires)

    @abstractmethod
    def _check_inputs(self, inputs: Sequence[Any], keywords: Mapping[str, Any]) -> None:
        """Raise a ValueError for tensors that cannot be mixed; Python counts the arguments."""

    @abstractmethod
    def flops(self, shape: CallShape) -> int:
        """FLOPs that the mathematics of one forward call needs: matrix products and convolutions.

        One multiply-add is 2. Pairs hidden by causality are not counted. Elementwise work is not
        counted here; it is observed and stored as a number of its own.
        """

    def executed_flops(self, shape: CallShape) -> int:
        """FLOPs that this implementation executes, e.g. full tiles under a causal mask."""
        return self.flops(shape)

    def decode_flops(self, shape: CallShape) -> int:
        """FLOPs of one `step` at a context of ``shape.key_len``: constant where a state is kept."""
        return self.flops(replace(shape, query_len=1, key_len=1, causal=False))

    def extra_elements(self, shape: CallShape, *, backward: bool) -> int:
        """Elements alive at the peak of one call above inputs, outputs and their gradients.

        An estimate for refusing what cannot fit, in elements of float32 or wider.
        Unless said otherwise: a few copies of the inputs.
        """
        per_key = shape.head_dim + shape.value_dim
        copies = 8 if backward else 4
        return copies * (shape.num_tokens * shape.head_dim + shape.num_keys * per_key)


@cache
def _keywords_of(cls: type[Mechanism]) -> tuple[str, ...] | None:
    """What `forward` takes by keyword; None if it takes anything."""
    return keywords_of(cls.forward)


class Attention(Mechanism):
    """A core: the mixing step alone, on heads that are already projected.

    >>> from attentions import Geometry, build_attention
    >>> core = build_attention("linear", Geometry(num_heads=2, head_dim=8, seq_len=5, causal=True))
    >>> q, k, v = torch.randn(3, 1, 2, 5, 8)
    >>> whole = core(q, k, v)

    One that claims ``recurrent`` gives the same token by token:

    >>> state = core.init_state(1, dtype=q.dtype, device=q.device)
    >>> for one_q, one_k, one_v in zip(q.split(1, 2), k.split(1, 2), v.split(1, 2)):
    ...     one, state = core.step(one_q, one_k, one_v, state)
    >>> torch.allclose(one, whole[:, :, 4:], atol=1e-5)
    True
    """

    def __init_subclass__(cls, **keywords: Any) -> None:
        """Put checks before `step` and `init_state`; before `forward` stands `__call__`."""
        super().__init_subclass__(**keywords)
        if "step" in cls.__dict__:
            cls.step = with_checked_tokens(cls.step)  # type: ignore[method-assign]
        if "init_state" in cls.__dict__:
            cls.init_state = with_checked_sizes(cls.init_state)  # type: ignore[method-assign]

    @abstractmethod
    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """(B, H, N, D), (B, H, M, D), (B, H, M, E) -> (B, H, N, E)."""

    def _check_inputs(self, inputs: Sequence[Any], keywords: Mapping[str, Any]) -> None:
        if len(inputs) < 3:
            rest = ("q", "k", "v")[len(inputs) :]
            inputs = [*inputs, *(keywords[name] for name in rest if name in keywords)]
        if len(inputs) == 3:
            check_heads(self.name, self.geometry, self.capabilities.dtypes, *inputs)
            check_devices(self.name, inputs[0], keywords)

    def _check_step(self, q: Tensor, k: Tensor, v: Tensor) -> None:
        check_heads(self.name, self.geometry, self.capabilities.dtypes, q, k, v)
        equal_lengths(self.name, q, k, "a step")

    def _empty_state_like(self, q: Tensor, k: Tensor) -> Any:
        """The state that the first step of such tokens needs, without its memory."""
        return self.init_state(q.shape[0], dtype=q.dtype, device=torch.device("meta"))

    def reference(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor | None:
        """The same function in its slow, obvious form, for checking `forward`; None if not given.

        Called with float64 tensors. It must not share the fast path's code.
        """
        return None

    def init_state(self, batch_size: int, *, dtype: torch.dtype, device: torch.device) -> Any:
        """An empty state for `step`; only if ``capabilities.recurrent``."""
        raise TypeError(f"{self.name} has no recurrent form.")

    def step(self, q: Tensor, k: Tensor, v: Tensor, state: Any) -> tuple[Tensor, Any]:
        """Take the next T tokens: one while decoding, a prompt all at once or in parts.

        (B, H, T, D), (B, H, T, D), (B, H, T, E), state -> (B, H, T, E), state.

        The state that is given is used up: the one returned may lie in the same memory. The same
        step can be taken again, for instance to time it; two ways on from one state cannot.
        """
        raise TypeError(f"{self.name} has no recurrent form.")


class AttentionLayer(Mechanism):
    """A mechanism whose identity is in its projections: it maps tokens to tokens.

    >>> from attentions import Geometry, build_attention
    >>> layer = build_attention("mla", Geometry(num_heads=2, head_dim=8, seq_len=5))
    >>> layer(torch.randn(1, 5, 16)).shape
    torch.Size([1, 5, 16])
    """

    @abstractmethod
    def forward(self, x: Tensor) -> Tensor:
        """(B, N, C) -> (B, N, C)."""

    def _check_inputs(self, inputs: Sequence[Any], keywords: Mapping[str, Any]) -> None:
        if "x" in keywords:
            inputs = [*inputs, keywords["x"]]
        if len(inputs) == 1:
            dtypes = self.capabilities.dtypes
            check_tokens(self.name, self.geometry, dtypes, inputs[0], self.parameters())

    def reference(self, x: Tensor) -> Tensor | None:
        """The same function in its slow, obvious form, as for `Attention`; None if not given."""
        return None
