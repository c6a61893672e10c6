"""A mechanism that was built, and inputs to call it on: at what shapes its work is looked at."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from attentions import CallShape, Geometry
from attentions.base import AttentionLayer, Mechanism

SMALL = Geometry(num_heads=2, head_dim=16, value_dim=8, seq_len=12)
# One head, so that pairs can be told apart.
PAIRS = Geometry(num_heads=1, head_dim=16, value_dim=8, seq_len=24)
# Several chunks or tiles, and a rest.
MEDIUM = Geometry(num_heads=1, head_dim=16, seq_len=300)
# More tokens than a window or a block that is in use.
SPARSE = Geometry(num_heads=1, head_dim=8, seq_len=600)
# So wide that a state outweighs the pair of a token with itself, which a chunked `step` adds.
WIDE = Geometry(num_heads=1, head_dim=256, seq_len=4)
LONG = Geometry(num_heads=1, head_dim=64, seq_len=1)

_SEED = 0


class NotCallable(Exception):
    """A mechanism cannot be built for, or called at, a shape at which it could be watched."""


@dataclass(frozen=True, kw_only=True)
class Sample:
    """A mechanism, built and with inputs to be called on.

    Attributes:
        mechanism: in evaluation mode.
        rebuild: builds it with the same weights for another geometry.
        tensors: ``(q, k, v)``, or ``(x,)`` of a layer.
    """

    mechanism: Any
    rebuild: Callable[[Geometry], Any]
    tensors: tuple[Tensor, ...]

    def to(self, where: torch.dtype | str) -> Sample:
        """A copy in another dtype, or on another device."""
        mechanism = copy.deepcopy(self.mechanism).to(where)
        return replace(self, mechanism=mechanism, tensors=tuple(x.to(where) for x in self.tensors))

    def call(self) -> object:
        """Call it on all of the tensors."""
        return self.mechanism(*self.tensors)

    @property
    def shape(self) -> CallShape:
        """Of a call on all of the tensors."""
        g, first, last = self.mechanism.geometry, self.tensors[0], self.tensors[-1]
        return CallShape(
            batch_size=first.shape[0],
            num_heads=g.num_heads,
            query_len=first.shape[-2],
            key_len=last.shape[-2],
            head_dim=g.head_dim,
            value_dim=g.value_dim,
            causal=g.causal,
        )


def make_sample(
    kind: type[Mechanism], geometry: Geometry, batch_size: int, key_len: int | None = None
) -> Sample:
    """A mechanism at its default hyperparameters, with seeded weights and unit-normal inputs.

    Raises:
        ValueError, TypeError, ImportError: it cannot be built for this geometry.
    """
    dtype = torch.float64 if "float64" in kind.capabilities.dtypes else torch.float32

    def rebuild(other: Geometry) -> Any:
        torch.manual_seed(_SEED)
        return kind(other).to(dtype).eval()

    mechanism = rebuild(geometry)
    g = mechanism.geometry
    sizes: list[tuple[int, ...]] = [(batch_size, g.seq_len, g.embed_dim)]
    if not isinstance(mechanism, AttentionLayer):
        keys = g.seq_len if key_len is None else key_len
        lengths, widths = (g.seq_len, keys, keys), (g.head_dim, g.head_dim, g.value_dim)
        sizes = [(batch_size, g.num_heads, *pair) for pair in zip(lengths, widths, strict=True)]
    generator = torch.Generator().manual_seed(_SEED)
    tensors = tuple(torch.randn(size, generator=generator).to(dtype) for size in sizes)
    return Sample(mechanism=mechanism, rebuild=rebuild, tensors=tensors)


def callable_sample(
    kind: type[Mechanism],
    geometry: Geometry,
    *,
    causal: bool,
    seq_len: int | None = None,
    batch_size: int = 1,
    key_len: int | None = None,
) -> Sample:
    """A sample of about this geometry: another value_dim, or more tokens, where it must be.

    Raises:
        NotCallable: none can be built and called.
    """
    wanted = replace(geometry, causal=causal, seq_len=seq_len or geometry.seq_len, grid=(0, 0))
    why = ""
    for length in dict.fromkeys((wanted.seq_len, 64, 256)):
        for value_dim in dict.fromkeys((wanted.value_dim, wanted.head_dim)):
            other = replace(wanted, seq_len=length, value_dim=value_dim, grid=(0, 0))
            try:
                sample = make_sample(kind, other, batch_size, key_len)
                with torch.no_grad():
                    sample.call()
                return sample
            except (ValueError, TypeError, RuntimeError, ImportError) as error:
                why = why or f"{type(error).__name__}: {str(error).splitlines()[0]}"
    raise NotCallable(f"cannot be called to be watched: {why}")


def long_sample(kind: type[Mechanism], length: int, *, causal: bool) -> Sample:
    """One sequence and one head of so many tokens."""
    return make_sample(kind, replace(LONG, seq_len=length, causal=causal, grid=(0, 0)), 1)
