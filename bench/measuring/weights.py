"""The N x M matrix with which a mechanism mixes values, for any mechanism linear in them."""

from __future__ import annotations

import copy
from dataclasses import replace

import torch
from torch import Tensor

from attentions import Attention

_TOLERANCE = {torch.float64: 1e-8, torch.float32: 1e-4}
"""Tolerance relative to the largest output; other dtypes are refused."""
_MOST_SAID = 200
"""Largest number of characters quoted from a core's error."""


class NoWeights(ValueError):
    """A mechanism's output is not a matrix times its values, so it has no weights."""


def weights(core: Attention, q: Tensor, k: Tensor, **keywords: Tensor) -> Tensor:
    """Weights of each query over the keys' values: (B, H, N, D), (B, H, M, D) -> (B, H, N, M).

    out = W v for a mechanism that is linear in v, so its output for v = identity is W, exactly and
    with gradients to q, k and the core's parameters; the core needs no support for this. Where the
    first half of the value channels is mixed by another matrix than the second, as in PolaFormer,
    the two count as heads: (B, 2 H, N, M), all first halves before all second halves. The core is
    in eval mode if it draws random numbers in training; `keywords` are its gates and masks.

    Raises:
        NoWeights: the core is not linear in v, mixes channels of v with each other, or is built
            for one width of v; or q is neither float32 nor float64.
        ValueError: raised by the call of the core.
    """
    if q.dtype not in _TOLERANCE:
        raise NoWeights(f"weights are taken in float32 or float64; q is {q.dtype}.")
    batch_size, num_heads, num_keys, _ = k.shape
    twin = copy.copy(core)  # with the same parameters, built for values as wide as there are keys
    twin.geometry = replace(core.geometry, value_dim=2 * num_keys)
    identity = torch.eye(num_keys, dtype=q.dtype, device=q.device)
    values = torch.cat([identity, identity], dim=1).expand(batch_size, num_heads, -1, -1)
    try:
        first, second = twin(q, k, values.contiguous(), **keywords).split(num_keys, dim=-1)
    except RuntimeError as error:
        said = str(error).partition("\n")[0]  # a compiler's message has pages
        why = f"it is built for one width of values ({said[:_MOST_SAID]})"
        raise NoWeights(_sentence(core, why)) from error
    _check(core, q, k, first, second, keywords)
    return first if _are_close(first, second) else torch.cat([first, second], dim=1)


@torch.no_grad()
def _check(
    core: Attention,
    q: Tensor,
    k: Tensor,
    first: Tensor,
    second: Tensor,
    keywords: dict[str, Tensor],
) -> None:
    """Compare W v with the core's own output for values of its own width.

    Rounding can make them differ where weights of both signs leave a small divisor, so what
    differs in float32 is compared again in float64.
    """
    stream = torch.Generator().manual_seed(0)
    size = (*k.shape[:-1], core.geometry.value_dim)
    v = torch.randn(size, generator=stream, dtype=q.dtype).to(q.device)
    expected = core(q, k, v, **keywords)
    halves = v.tensor_split(2, dim=-1)
    found = torch.cat([w @ half for w, half in zip((first, second), halves, strict=True)], dim=-1)
    if _are_close(found, expected):
        return
    if q.dtype != torch.float64:
        in_float64 = {n: x.double() if x.is_floating_point() else x for n, x in keywords.items()}
        weights(copy.deepcopy(core).double(), q.double(), k.double(), **in_float64)
        return
    raise NoWeights(_sentence(core, "its output is not linear in v, channel by channel"))


def _are_close(a: Tensor, b: Tensor) -> bool:
    bound = _TOLERANCE[a.dtype] * b.detach().abs().amax()
    return bool(((a - b).detach().abs() <= bound).all())


def _sentence(core: Attention, why: str) -> str:
    return f"{core.name} has no weights to look at: {why}."
