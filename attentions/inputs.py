"""Check the tensors of a call against the geometry that a mechanism was built for.

Without the check torch would silently broadcast some wrong sizes and report others many operators
later. It reads sizes, dtypes and devices, never values, so it costs no synchronisation.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from .geometry import Geometry
from .precision import is_autocast

DTYPES = {
    torch.float32: "float32",
    torch.bfloat16: "bfloat16",
    torch.float16: "float16",
    torch.float64: "float64",
}
HEADS_FIRST = "the layout is (B, H, N, D); tensors of (B, N, H, D) fit after x.transpose(1, 2)."


def heads_first(x: Tensor, num_heads: int) -> str:
    """A sentence on the layout, for a tensor that has so many heads on axis 2 and not on axis 1."""
    is_other = x.dim() > 2 and x.shape[2] == num_heads != x.shape[1]
    return f" If axis 2 holds heads: {HEADS_FIRST}" if is_other else ""


def check_heads(
    mechanism: str,
    geometry: Geometry,
    dtypes: Sequence[str],
    q: Any,
    k: Any,
    v: Any,
    *,
    num_kv_heads: int | None = None,
) -> None:
    """Raise a ValueError unless q, k, v fit the geometry, and each other, in an accepted dtype.

    (B, H, N, D), (B, H_kv, M, D), (B, H_kv, M, E), with N and M of 1 or more and the geometry's
    H_kv unless another is given. Under autocast their dtypes may differ, since torch makes them
    equal there.
    """
    if not isinstance(q, Tensor) or not isinstance(k, Tensor) or not isinstance(v, Tensor):
        _refuse_others(mechanism, (("q", q), ("k", k), ("v", v)))
    g, q_sizes, k_sizes, v_sizes = geometry, q.shape, k.shape, v.shape
    kv_heads = num_kv_heads or g.num_kv_heads
    value_heads = g.num_value_heads or kv_heads
    if len(q_sizes) != 4 or len(k_sizes) != 4:
        _refuse_heads(mechanism, g, q, k, v)
    batch_size, _, query_len, _ = q_sizes
    key_len = k_sizes[2]
    if (
        q_sizes != (batch_size, g.num_heads, query_len, g.head_dim)
        or k_sizes != (batch_size, kv_heads, key_len, g.head_dim)
        or v_sizes != (batch_size, value_heads, key_len, g.value_dim)
        or query_len == 0
        or key_len == 0
    ):
        _refuse_heads(mechanism, g, q, k, v)
    if not (q.dtype == k.dtype == v.dtype) or q.dtype not in DTYPES or len(dtypes) < len(DTYPES):
        _check_dtypes(mechanism, dtypes, (("q", q), ("k", k), ("v", v)))
    if not (q.layout is k.layout is v.layout is torch.strided):
        raise ValueError(
            f"{mechanism}: q is of layout {q.layout}, k of {k.layout} and v of {v.layout}; "
            "torch.strided is needed, as after .to_dense()."
        )
    if not (q.device == k.device == v.device):
        raise ValueError(
            f"{mechanism}: q is on {q.device}, k on {k.device} and v on {v.device}; one device "
            "for all is needed."
        )


def check_tokens(
    mechanism: str,
    geometry: Geometry,
    dtypes: Sequence[str],
    x: Any,
    parameters: Iterable[Tensor] = (),
) -> None:
    """Raise a ValueError unless x is (B, N, C) in an accepted dtype, with N of 1 or more.

    That must be the dtype of some of the parameters, where there are any: projections do not
    widen, except under autocast.
    """
    if not isinstance(x, Tensor):
        _refuse_others(mechanism, (("x", x),))
    sizes = x.shape
    if len(sizes) != 3 or sizes[2] != geometry.embed_dim or sizes[1] == 0:
        raise ValueError(
            f"{mechanism}: x is of shape {tuple(sizes)}; (B, N, {geometry.embed_dim}) with N of 1 "
            "or more is needed, by its geometry."
        )
    if x.dtype not in DTYPES or len(dtypes) < len(DTYPES):
        _check_dtypes(mechanism, dtypes, (("x", x),))
    theirs = None
    for parameter in parameters:
        if parameter.dtype == x.dtype:
            return
        theirs = theirs or parameter.dtype
    if theirs and not is_autocast(x.device.type):
        raise ValueError(
            f"{mechanism}: x is {x.dtype} and the parameters are {theirs}; one dtype is needed, "
            f"as after .to(x.dtype)."
        )


def check_devices(mechanism: str, q: Any, keywords: Mapping[str, Any]) -> None:
    """Raise a ValueError unless masks and gates are where the queries are."""
    for argument, x in keywords.items():
        if isinstance(x, Tensor) and isinstance(q, Tensor) and x.device != q.device:
            raise ValueError(
                f"{mechanism}: {argument} is on {x.device} and q on {q.device}; one device for "
                "all is needed."
            )


def is_eager_cpu(*tensors: Tensor) -> bool:
    """Whether these are ordinary tensors on a CPU and nothing but autograd follows the operators.

    Tensors on the meta device count as well: a dry run then sees what a CPU would allocate.
    """
    if torch.compiler.is_compiling() or torch.jit.is_tracing():  # type: ignore[attr-defined, no-untyped-call]
        return False
    return all(
        type(x) in (Tensor, torch.nn.Parameter)
        and x.device.type in ("cpu", "meta")
        and not is_transformed(x)
        for x in tensors
    )


def is_transformed(x: Tensor) -> bool:
    """Whether a transform such as `torch.func.vmap` or `jvp` follows what is done with a tensor."""
    is_wrapped = torch.func.debug_unwrap(x) is not x
    return is_wrapped or _has_tangent(x)


def is_followed(x: Tensor) -> bool:
    """Whether autograd or a transform follows a tensor: what depends on it may not be dropped.

    Other than for `is_transformed`, a tensor that was merely made while a transform runs does not
    count, although torch wraps it.
    """
    while not (x.requires_grad or _has_tangent(x)):
        inner = torch.func.debug_unwrap(x, recurse=False)
        if inner is x:
            return False
        if inner.dim() != x.dim():  # `torch.func.vmap` maps over an axis of it
            return True
        x = inner
    return True


def _has_tangent(x: Tensor) -> bool:
    return torch.autograd.forward_ad.unpack_dual(x).tangent is not None


def _refuse_others(mechanism: str, given: Sequence[tuple[str, Any]]) -> None:
    for argument, x in given:
        if not isinstance(x, Tensor):
            raise ValueError(
                f"{mechanism}: {argument} is of type {type(x).__name__}; a tensor is needed."
            )


def _refuse_heads(mechanism: str, g: Geometry, q: Tensor, k: Tensor, v: Tensor) -> None:
    raise ValueError(
        f"{mechanism}: q is of shape {tuple(q.shape)}, k of {tuple(k.shape)} and v of "
        f"{tuple(v.shape)}; (B, {g.num_heads}, N, {g.head_dim}), (B, {g.num_kv_heads}, M, "
        f"{g.head_dim}) and (B, {g.num_value_heads or g.num_kv_heads}, M, {g.value_dim}) with N "
        f"and M of 1 or more are needed, by its geometry.{heads_first(q, g.num_heads)}"
    )


def _check_dtypes(
    mechanism: str, dtypes: Sequence[str], given: Sequence[tuple[str, Tensor]]
) -> None:
    """Each one accepted, and all of them alike unless torch will make them so."""
    is_cast = is_autocast(given[0][1].device.type)
    for argument, x in given:
        name = str(x.dtype).removeprefix("torch.")
        if name not in dtypes and not (is_cast and x.is_floating_point()):
            raise ValueError(f"{mechanism}: {argument} is {x.dtype}; it takes {', '.join(dtypes)}.")
    if len({x.dtype for _, x in given}) > 1 and not is_cast:
        said = ", ".join(f"{argument} is {x.dtype}" for argument, x in given)
        raise ValueError(f"{mechanism}: {said}; one dtype for all is needed.")


def mask_given(key_mask: Tensor | None) -> dict[str, Tensor]:
    """Keywords of a core's call: a mask only if there is one, since not every core takes one."""
    return {} if key_mask is None else {"key_mask": key_mask}
