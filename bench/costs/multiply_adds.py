"""Count multiply-adds by brute force: each product is repeated on ones.

Each entry of the result then says how many it took. That is independent of the formulas of torch's
counter, and unlike it aware of a fused kernel's causal mask, of factors that are zero, and of
products that are written as a multiplication and a sum.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

aten = torch.ops.aten

# Operators that multiply matrices, and where the two are among their arguments.
_PRODUCTS = {
    aten.mm: (0, 1),
    aten.bmm: (0, 1),
    aten.mv: (0, 1),
    aten.dot: (0, 1),
    aten.addmm: (1, 2),
    aten.addmv: (1, 2),
    aten.baddbmm: (1, 2),
    aten.addbmm: (1, 2),
}
_FUSED = {
    aten._scaled_dot_product_flash_attention_for_cpu: "causal_at_4",
    aten._scaled_dot_product_flash_attention: "causal_at_4",
    aten._scaled_dot_product_efficient_attention: "mask_at_3_causal_at_6",
    aten._scaled_dot_product_cudnn_attention: "mask_at_3_causal_at_6",
}
_SUMS = {aten.sum, aten.mean, aten.cumsum}
_ADDS = {aten.add, aten.add_, aten.sub, aten.sub_}
_OPAQUE = ("fft", "linalg", "triangular_solve", "cholesky", "lu_", "flex_attention")
"""In the names of operators that hold products which nobody here can see."""

_NO_PRODUCT = {aten.linalg_vector_norm}


@dataclass(frozen=True, kw_only=True)
class MultiplyAdds:
    """What was counted in a call.

    Attributes:
        products: in matrix products, convolutions and fused attention, the pairs that a fused
            kernel's mask hides apart.
        nonzero: those of them of which neither factor is zero, as for a padded channel or a weight
            that a mask has set to zero.
        written_out: multiplications that are summed afterwards, an entry with an entry, as in
            ``(a * b).sum()`` or ``state + k[..., None] * v[..., None, :]``.
        has_masked_kernel: whether a fused kernel was given a mask.
        opaque: operators that hold products of a number unknown.
    """

    products: int
    nonzero: int
    written_out: int
    has_masked_kernel: bool
    opaque: tuple[str, ...]


def count_multiply_adds(call: Callable[[], object]) -> MultiplyAdds:
    """Run a call once and repeat each of its products on ones; for small shapes."""
    with _Tally() as tally:
        call()
    return MultiplyAdds(
        products=tally.products,
        nonzero=tally.nonzero,
        written_out=tally.written_out,
        has_masked_kernel=tally.has_masked_kernel,
        opaque=tuple(sorted(tally.opaque)),
    )


class _Tally(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.products = self.nonzero = self.written_out = 0
        self.has_masked_kernel = False
        self.opaque: set[str] = set()
        # Results of multiplications that may still be summed, kept so that no address is reused;
        # True where the result is larger than each factor, as of an outer product.
        self._multiplied: dict[int, tuple[Tensor, bool]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        packet = getattr(func, "overloadpacket", func)
        name = str(getattr(packet, "__name__", packet))
        if packet in _PRODUCTS:
            left, right = (args[place] for place in _PRODUCTS[packet])
            self._add(left, right, _matmul)
        elif packet is aten.convolution:
            self._add(args[0], args[1], partial(_convolve, how=args[3:]))
        elif packet in _FUSED:
            self._add_fused(_FUSED[packet], args, kwargs)
        elif packet in _SUMS:
            if not _is_look(func, args[0]):
                self._see_sum(args[0])
        elif packet in _ADDS:
            self._see_add(args[:2])
        elif packet not in _NO_PRODUCT and _is_opaque(func, name):
            self.opaque.add(name)
        out = func(*args, **kwargs)
        if packet in (aten.mul, aten.mul_):
            self._see_multiplication(args[0], args[1], out)
        return out

    def _add(
        self, left: Tensor, right: Tensor, product: Callable[[Tensor, Tensor, float], Tensor]
    ) -> None:
        self.products += _total(product(_ones(left), _ones(right), 1.0))
        self.nonzero += _total(product(_ones(left, left != 0), _ones(right, right != 0), 0.0))

    def _add_fused(self, signature: str, args: Any, kwargs: Any) -> None:
        """Scores and the mix of values, pair by pair: (B, H, N, D), (B, H, M, D), (B, H, M, E)."""
        q, k, v = args[:3]
        allowed = _ones(q[..., :1]) @ _ones(k[..., :1]).transpose(-2, -1)
        mask, is_causal = kwargs.get("attn_mask"), bool(kwargs.get("is_causal", False))
        if signature == "causal_at_4":
            is_causal = is_causal or (len(args) > 4 and bool(args[4]))
        else:
            mask = args[3] if len(args) > 3 else mask
            is_causal = is_causal or (len(args) > 6 and bool(args[6]))
        if is_causal:
            allowed = allowed.tril()
        if mask is not None:
            allowed = allowed * (mask if mask.dtype is torch.bool else mask > -torch.inf)
        self.has_masked_kernel = self.has_masked_kernel or is_causal or mask is not None
        self.products += _total(allowed) * (q.shape[-1] + v.shape[-1])
        channels = _ones(q, q != 0) @ _ones(k, k != 0).transpose(-2, -1)
        self.nonzero += _total(allowed * channels) + _total(allowed @ _ones(v, v != 0))

    def _see_multiplication(self, left: Any, right: Any, out: Tensor) -> None:
        if not isinstance(left, Tensor) or not isinstance(right, Tensor):
            return
        if min(left.numel(), right.numel()) < 2 or _address(left) == _address(right):
            return  # by a number, or the square of a norm
        is_outer = out.numel() > max(left.numel(), right.numel())
        self._multiplied[_address(out)] = (out, is_outer)

    def _see_sum(self, summed: Tensor) -> None:
        if self._multiplied.pop(_address(summed), None) is not None:
            self.written_out += summed.numel()

    def _see_add(self, terms: Any) -> None:
        for term in terms:
            if isinstance(term, Tensor) and self._multiplied.get(_address(term), (0, False))[1]:
                del self._multiplied[_address(term)]
                self.written_out += term.numel()


def _is_look(func: Any, summed: Tensor) -> bool:
    """Whether it is the sum of a whole output that tells mechanisms whether that is finite."""
    return func is aten.sum.default and summed.ndim >= 3


def _is_opaque(func: Any, name: str) -> bool:
    """Whether an operator may hold products: by its name, or because it is not torch's own."""
    is_torchs = getattr(func, "namespace", "aten") in ("aten", "prims", "prim", "profiler")
    return not is_torchs or any(part in name for part in _OPAQUE)


def _address(tensor: Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)


def _ones(like: Tensor, where: Tensor | None = None) -> Tensor:
    """Ones of the same shape, in float64 so that their sums are whole numbers."""
    ones = torch.ones(like.shape, dtype=torch.float64)
    return ones if where is None else ones * where.cpu()


def _total(counts: Tensor) -> int:
    return round(float(counts.sum()))


def _matmul(left: Tensor, right: Tensor, padding_value: float) -> Tensor:
    return left @ right


def _convolve(x: Tensor, weight: Tensor, padding_value: float, how: Any) -> Tensor:
    """A convolution without its bias, of data that is padded with a value."""
    stride, padding, dilation, is_transposed, output_padding, groups = how
    if is_transposed:  # is not padded, but cut
        return torch.convolution(
            x, weight, None, stride, padding, dilation, True, output_padding, groups
        )
    sides = [width for width in reversed(padding) for _ in range(2)]
    padded = functional.pad(x, sides, value=padding_value)
    none = [0] * len(padding)
    return torch.convolution(padded, weight, None, stride, none, dilation, False, none, groups)
