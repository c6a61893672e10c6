"""Matrix products that are tried for a machine's ceiling: their shapes and libraries.

The library matters more than the shape. Torch has two for CPUs, and `torch.mm` uses only one of
them: MKL's float32 keeps to AVX2 on processors that are not Intel's, where oneDNN's uses AVX-512.
A mechanism may use either, so a ceiling from one of them alone is too low.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

SHAPES = (
    *((size, size, size) for size in (256, 512, 1024, 2048, 4096, 8192)),
    # Scores of 1024 and 4096 tokens with a head of 64 channels, and the weighted sum of values.
    *((size, 64, size) for size in (1024, 4096)),
    *((size, size, 64) for size in (1024, 4096)),
    # A tile of tokens of linear attention: its sums over keys, and their products with queries.
    *((64, 1024, 64), (1024, 64, 64)),
    # The same with performer-pytorch's 266 features of 64 channels, and their projection.
    *((64, 512, 266), (512, 266, 64), (512, 64, 266)),
)
"""Rows, inner size and columns of the products tried; the fastest one depends on the library."""

Shape = tuple[int, int, int]
Call = Callable[[], object]

MM, ONEDNN = "torch.mm", "oneDNN"

_ONEDNN_DTYPES = (torch.float32, torch.bfloat16, torch.float16)


def product_makers(device: torch.device, dtype: torch.dtype) -> dict[str, Callable[[Shape], Call]]:
    """For each available library, a function that makes a call of a product of some shape."""
    makers: dict[str, Callable[[Shape], Call]] = {MM: partial(_mm, device, dtype)}
    if device.type == "cpu" and dtype in _ONEDNN_DTYPES and _has_onednn(dtype):
        makers[ONEDNN] = partial(_onednn, dtype)
    return makers


def _has_onednn(dtype: torch.dtype) -> bool:
    if not torch.backends.mkldnn.is_available() or not hasattr(torch.ops.mkldnn, _LINEAR):
        return False
    try:
        _onednn(dtype, (1, 1, 1))()
    except RuntimeError:  # this processor has no instructions for the dtype
        return False
    return True


_LINEAR = "_linear_pointwise"


def _mm(device: torch.device, dtype: torch.dtype, shape: Shape) -> Call:
    rows, inner, columns = shape
    a, b = _random(rows, inner, device, dtype), _random(inner, columns, device, dtype)
    out = torch.empty(rows, columns, device=device, dtype=dtype)
    return partial(torch.mm, a, b, out=out)


def _onednn(dtype: torch.dtype, shape: Shape) -> Call:
    rows, inner, columns = shape
    cpu = torch.device("cpu")
    x, weight = _random(rows, inner, cpu, dtype), _random(columns, inner, cpu, dtype)
    linear: Any = getattr(torch.ops.mkldnn, _LINEAR)
    return partial(linear, x, weight, None, "none", [], "")


def _random(rows: int, columns: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    # Not zeros: these draw less power, and a chip may clock higher for them.
    return torch.randn(rows, columns, device=device).to(dtype)
