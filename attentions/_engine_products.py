"""The engine's matrix products: three shapes of them, for one head.

Torch's `mm` is MKL's, which keeps to AVX2 on processors that are not Intel's, while oneDNN, which
torch carries as well, uses AVX-512 on all that have it. So there, float32 goes through oneDNN where
it can; on Intel's own, MKL is the faster one, and so it is where vectors of 512 bits are computed
in halves, but for tokens times a wide matrix. OneDNN compiles a kernel per shape, hence only for
token counts that come again and again.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import torch
from torch import Tensor

from ._engine_processor import halves_wide_vectors, has_wide_vectors, is_intel

_WHOLE = 64
"""Token counts for oneDNN are multiples of this ..."""
_LEAST = 512
"""... and no fewer."""
_FEW_COLUMNS = 128
"""A matrix with more is wide."""
_BLOCK = 16
"""Columns that MKL computes at once without AVX-512; for fewer it takes as long."""
_LARGE_HEAD = 2**16
"""Elements of a head; where there are more, calls by head are worth their time."""

_LINEAR = "_linear_pointwise"


@functools.cache
def onednn_outruns_mkl(*, is_wide: bool = False) -> bool:
    """Whether oneDNN takes products of one head faster here than MKL takes those of several.

    Args:
        is_wide: whether tokens are multiplied with a matrix of many columns.
    """
    return (
        has_wide_vectors()
        and not is_intel()
        and (is_wide or not halves_wide_vectors())
        and torch.backends.mkldnn.is_available()
        and hasattr(torch.ops.mkldnn, _LINEAR)
    )


def has_fast_linear(x: Tensor, *, is_wide: bool = False) -> bool:
    """Whether `fast_linear` may take products of x; ``is_wide`` as `onednn_outruns_mkl` has it."""
    return x.dtype == torch.float32 and not _is_counted() and onednn_outruns_mkl(is_wide=is_wide)


def _by_onednn(x: Tensor, sums: Tensor) -> bool:
    """Whether to take products of (heads, n, ...) with such (heads, E, F) by oneDNN."""
    return _is_for_onednn(x, max(sums.shape[1:]))


def _meets_by_onednn(values: Tensor, parts: Sequence[Tensor]) -> bool:
    """The same of products that become (heads, E, F).

    OneDNN needs a transposed copy of the values for these, MKL does not. Where MKL's vectors are as
    fast, that copy is lost time.
    """
    width = max(values.shape[-1], parts[0].shape[-1])
    return not halves_wide_vectors() and _is_for_onednn(values, width)


def _is_for_onednn(x: Tensor, width: int) -> bool:
    num_heads, num_tokens, _ = x.shape
    has_its_shape = num_heads == 1 and num_tokens >= _LEAST and num_tokens % _WHOLE == 0
    return has_its_shape and has_fast_linear(x, is_wide=width > _FEW_COLUMNS)


def in_whole_blocks(weight: Tensor) -> Tensor:
    """Rows of a wide (F, D), and behind them copies of the first, if X W^T is faster with these.

    Where MKL has vectors of 256 bits only: tokens times 266 rows take a tenth longer than times
    272, of which the last columns are left out later, in views.
    """
    num_more = -len(weight) % _BLOCK
    is_wide = len(weight) > _FEW_COLUMNS and weight.dtype == torch.float32
    if not (num_more and is_wide) or has_wide_vectors() or _is_counted():
        return weight
    return torch.cat((weight, weight[:num_more]))


def fast_linear(x: Tensor, weight: Tensor) -> Tensor:
    """X W^T by oneDNN: (m, k), (n, k) -> (m, n)."""
    product: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, None, "none", [], "")
    return product


def meet(values: Tensor, parts: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """V^T Phi, (heads, E, F), from values (heads, n, E) and each of the parts (heads, n, F)."""
    if not _meets_by_onednn(values, parts):
        values_t = _side_by_side(values).transpose(1, 2)
        return tuple(torch.bmm(values_t, phi) for phi in parts)
    # In one piece first: of rows far apart, the transpose would take five times as long.
    values_t = values[0].contiguous().T.contiguous()
    return tuple(fast_linear(values_t, phi[0].T).unsqueeze(0) for phi in parts)


def meet_again(sums: Sequence[Tensor], values: Tensor, parts: Sequence[Tensor]) -> None:
    """Add V^T Phi to each sum."""
    if _meets_by_onednn(values, parts):
        for total, more in zip(sums, meet(values, parts), strict=True):
            total.add_(more)
        return
    values_t = _side_by_side(values).transpose(1, 2)
    for total, phi in zip(sums, parts, strict=True):
        add_product(total, values_t, phi)


def _side_by_side(values: Tensor) -> Tensor:
    """Copied where rows of several heads lie far apart: their product takes a tenth longer."""
    is_scattered = len(values) > 1 and values.stride(1) > len(values) * values.shape[2]
    return values.contiguous() if is_scattered else values


def add_product(total: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """Add A B to ``total``, in place; not by `baddbmm_`, which torch's counter of FLOPs skips."""
    return torch.baddbmm(total, a, b, out=total)


def read(parts: Sequence[Tensor], sums: Sequence[Tensor], into: Tensor | None = None) -> Tensor:
    """Phi S^T, summed over parts: (heads, n, F), (heads, E, F) -> (heads, n, E).

    In ``into`` where that takes it at once, and else in memory of its own.
    """
    if _by_onednn(parts[0], sums[0]):
        out = fast_linear(parts[0], sums[0][0])
        for phi, total in zip(parts[1:], sums[1:], strict=True):
            out = torch.ops.mkldnn._linear_pointwise.binary(phi, out, total[0], None, "add")
        return out
    if into is not None and not _takes_at_once(into, parts[0]):
        into = None
    out = torch.bmm(parts[0], sums[0].transpose(1, 2), out=into)
    for phi, total in zip(parts[1:], sums[1:], strict=True):
        add_product(out, phi, total.transpose(1, 2))
    return out


def _takes_at_once(out: Tensor, phi: Tensor) -> bool:
    """Not head by head, nor from another dtype."""
    return out.dtype == phi.dtype and (len(out) == 1 or out.is_contiguous())


def spread(values: Tensor, sums: Tensor) -> Tensor:
    """V S: (heads, n, E), (heads, E, F) -> (heads, n, F)."""
    if _by_onednn(values, sums):
        return fast_linear(values, sums[0].T)
    return torch.bmm(values, sums)


def project(parts: Sequence[Tensor], columns: Sequence[Tensor]) -> Tensor:
    """Phi z, summed over parts: (heads, n, F), (heads, F, 1) -> (heads, n, 1)."""
    total = None
    for phi, column in zip(parts, columns, strict=True):
        if _goes_by_heads(phi):
            more = torch.stack([a @ b for a, b in zip(phi, column, strict=True)])
        elif len(phi) > 1 and not is_intel():
            # As z^T Phi^T, for the reason that `backproject` gives; one head is a plain product.
            more = torch.bmm(column.transpose(1, 2), phi.transpose(1, 2)).transpose(1, 2)
        else:
            more = torch.bmm(phi, column)
        total = more if total is None else total.add_(more)
    assert total is not None
    return total


def backproject(phi: Tensor, column: Tensor) -> Tensor:
    """Phi^T c: (heads, n, F), (heads, n, 1) -> (heads, F, 1).

    As c^T Phi: with the column on the right, MKL's batched product takes several times as long.
    """
    return torch.bmm(column.transpose(1, 2), phi).transpose(1, 2)


def _goes_by_heads(phi: Tensor) -> bool:
    """Whether its product with a column is best taken head by head.

    For large heads a batched one takes up to twice as long. But several threads can share it, and
    a call for each head takes its time as well.
    """
    is_large = len(phi) > 1 and phi.shape[1] * phi.shape[2] > _LARGE_HEAD
    return is_large and torch.get_num_threads() == 1 and not _is_counted()


def _is_counted() -> bool:
    """Whether something like torch's counter of FLOPs looks on, which knows aten's products."""
    return torch._C._len_torch_dispatch_stack() > 0
