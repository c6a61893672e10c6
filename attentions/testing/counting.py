"""FLOP formulas of operators that torch's counter lacks, and calls without compilation."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.utils.flop_counter import flop_registry, shape_wrapper

aten = torch.ops.aten


def _cpu_flash(q: Any, k: Any, v: Any, *_: Any, out_shape: Any = None, **__: Any) -> int:
    # Counts the heads of queries, also if keys are shared: torch 2.9's own count refuses that.
    pairs = int(math.prod(q[:-1])) * int(k[-2])
    return 2 * pairs * int(q[-1] + v[-1])


def _cpu_flash_backward(_: Any, q: Any, k: Any, v: Any, *__: Any, **___: Any) -> int:
    # Five products of the size of the forward pass's two: the scores are computed again.
    return _cpu_flash(q, k, v) * 5 // 2


def _solve(a: Any, *_: Any, out_shape: Any = None, **__: Any) -> int:
    # Elimination, and two triangular systems for each column of the right side; a vector is one
    # column.
    columns = math.prod(out_shape[0]) // math.prod(a[:-1]) if out_shape else 1
    return int(math.prod(a[:-2]) * (2 * a[-1] ** 3 // 3 + 2 * a[-1] ** 2 * columns))


def _outer_product(
    _: Any, column: Any, row: Any, *__: Any, out_shape: Any = None, **___: Any
) -> int:
    # As of a product of matrices with one column and one row; anything else scales elements.
    is_outer = len(column) > 1 and len(row) > 1 and column[-1] == row[-2] == 1
    return 2 * math.prod(out_shape) if is_outer and out_shape else 0


def missing_formulas() -> dict[Any, Callable[..., int]]:
    """FLOP formulas, by operator, that the running torch lacks.

    They are those of the CPU's fused attention, which torch's counter takes for 0 FLOPs
    (pytorch#195460), of solves, and of outer products that are added to a matrix.
    """
    ours = {
        aten._scaled_dot_product_flash_attention_for_cpu: _cpu_flash,
        aten._scaled_dot_product_flash_attention_for_cpu_backward: _cpu_flash_backward,
        aten._linalg_solve_ex: _solve,
        aten.addcmul: _outer_product,
    }
    return {op: shape_wrapper(f) for op, f in ours.items() if op not in flop_registry}


@contextmanager
def as_written() -> Iterator[None]:
    """Run code that compiles itself eagerly instead, so that its operators can be observed.

    The compiler is loaded at the first call of such code. Loading takes a second, so it is not
    loaded here for code that needs none.
    """
    if "torch._dynamo" not in sys.modules:
        yield
        return
    with torch.compiler.set_stance("force_eager"):
        yield
