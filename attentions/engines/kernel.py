"""Kernel attention: the weight of a pair is phi(q) . phi(k), so keys and values can meet first."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ..base import Attention, CallShape, Geometry
from ..inputs import is_eager_cpu, is_followed, is_transformed
from ..kernel import causal, tiles
from ..kernel.derivatives import Parts, as_parts
from ..kernel.plain import KernelState, plain, plain_causal
from ..kernel.tiled import tiled
from ..maths.kernel_attention import kernel_flops
from ..precision import wide_dtype, widen, within_range, without_autocast

__all__ = ["KernelCore", "KernelState", "Parts"]

_COMPUTED_IN_FLOAT32 = {torch.float32, torch.bfloat16, torch.float16}


class KernelCore(Attention):
    """out_i = sum_j phi(q_i) . phi(k_j) v_j / (sum_j phi(q_i) . phi(k_j) + eps).

    A core gives `phi_q`, `phi_k` if it differs, and says what divides. The engine has the forward
    and backward pass, the causal form, `init_state` and `step`, masks (claim ``padding``), half
    inputs (computed in float32), grouped heads without copies of keys, and FLOPs.

    >>> from attentions import Capabilities, Geometry, KernelCore
    >>> class Relu(KernelCore):  # register_attention sets name and capabilities
    ...     name, eps = "relu", 1e-6
    ...     capabilities = Capabilities(causal=True, recurrent=True, masks=frozenset({"padding"}))
    ...     def phi_q(self, q):
    ...         return q.relu()
    >>> core = Relu(Geometry(num_heads=2, head_dim=8, seq_len=5))
    >>> core(*torch.rand(3, 1, 2, 5, 8)).shape
    torch.Size([1, 2, 5, 8])

    Feature maps see some tokens of some heads at a time, (..., n, D) in float32 or wider, and are
    run again in the backward pass: they must be functions of their arguments, which they leave as
    they are, and of settings, by differentiable operators. Learned tensors reach them through
    `weights`, positions through `places`. They return (..., n, F), or a tuple of parts whose
    products add up to the weight of a pair: two parts side by side would be a copy.

    On a CPU, in eager mode and without a mask, tokens are taken tile by tile: intermediate results
    stay in the cache, and only sums over keys are kept for the backward pass. Everywhere else, and
    for gradients of gradients, it is the formula over whole tensors.

    Attributes:
        feature_dim: F, the features of a token over all parts; head_dim unless set.
        eps: added to the sum of weights.
        divides: whether the sum of weights divides.
        eps_on_mean: whether ``eps`` is added to the mean weight instead. Not causal.
        least: what divides is this at least.
        floor: None, unless `phi_k` returns (e, s) and the features of keys are exp(e - peak) +
            floor, where ``peak`` is the maximum of s over all tokens; no gradient goes to it. Not
            causal.
        joint_heads: whether the features of a head depend on the other heads. Not causal.
        shares_heads: whether `forward` takes fewer heads of keys and values than of queries.
    """

    eps: float = 0.0
    divides: bool = True
    eps_on_mean: bool = False
    least: float = 0.0
    floor: float | None = None
    joint_heads: bool = False
    shares_heads: bool = True

    def __init__(self, geometry: Geometry) -> None:
        super().__init__(geometry)
        self.feature_dim = geometry.head_dim

    @abstractmethod
    def phi_q(self, q: Tensor, *inputs: Any, **_: Any) -> Parts | Tensor:
        """Features of queries, from tokens, all of `weights`, and their rows of `places`."""

    def phi_k(self, k: Tensor, *inputs: Any, **_: Any) -> Parts | Tensor:
        """Features of keys; those of queries unless given."""
        return self.phi_q(k, *inputs)

    def weights(self, dtype: torch.dtype) -> Parts:
        """Learned tensors of the feature maps, (H, ...) each, of this dtype, float32 or wider."""
        return ()

    def places(self, start: int, stop: int, dtype: torch.dtype, device: torch.device) -> Parts:
        """Position features of tokens ``start`` to ``stop``, a row each."""
        return ()

    def turn(self, q: Tensor, k: Tensor) -> Tensor | None:
        """Unit complex numbers that rotate adjacent features in the numerator. Not causal.

        (1 or H, N, F / 2) for parts of F features, which must be fresh tensors.
        """
        return None

    def combine(self, contexts: Parts, key_sums: Parts) -> tuple[Parts, Parts]:
        """Turn the sums that keys leave behind into those that queries read. Not causal.

        From sums of phi(k) v^T, (..., F, E) per part, and of phi(k), (..., F, 1) per part, to
        (..., F, E) and (..., F, C) per part, for C groups of the E columns, as `tensor_split` makes
        them, each of which is divided by a sum of its own.
        """
        return contexts, key_sums

    @property
    def combines(self) -> bool:
        """True for a core that gives `combine`."""
        return type(self).combine is not KernelCore.combine

    @property
    def key_map(self) -> Callable[..., Parts | Tensor]:
        """`phi_k` if it is given, or `phi_q` itself, which may have a derivative by hand."""
        return self.phi_q if type(self).phi_k is KernelCore.phi_k else self.phi_k

    def pairs(self, q: Tensor, k: Tensor) -> Tensor | None:
        """phi(q) . phi(k) of pairs, (..., n, D), (..., m, D) -> (..., n, m), as a fresh tensor.

        For causal pairs of a chunk, where features are not the cheapest way; for maps without
        `weights` and `places`.
        """
        return None

    def map_flops(self, shape: CallShape) -> int:
        """FLOPs of the feature maps themselves."""
        return 0

    def forward(self, q: Tensor, k: Tensor, v: Tensor, *, key_mask: Tensor | None = None) -> Tensor:
        """(B, H, N, D), (B, H, M, D), (B, H, M, E) -> (B, H, N, E)."""
        return self._attend(q, k, v, self._weights(q), key_mask)

    def _weights(self, q: Tensor) -> Parts:
        """`weights` for such queries; a TypeError for one that is not (H, ...)."""
        found, heads = self.weights(wide_dtype(q.dtype)), q.shape[1]
        for x in found:
            if x.shape[:1] != (heads,):
                raise TypeError(
                    f"{self.name}: its method weights returns a tensor of shape {tuple(x.shape)}; "
                    f"({heads}, ...) is needed, as after .expand({heads}, ...) if heads share it."
                )
        return found

    def _attend(
        self, q: Tensor, k: Tensor, v: Tensor, weights: Parts, key_mask: Tensor | None
    ) -> Tensor:
        """`forward` with these `weights`. A query whose keys are all hidden gets zeros.

        Raises:
            TypeError: a causal form that does not exist, or a learned tensor that `weights` does
                not return.
        """
        if q.shape[1] != k.shape[1]:
            return self._grouped(q, k, v, weights, key_mask)
        call = self._call(0, q, k, weights)
        with without_autocast(q.device.type):
            self._check_features(q, v, weights)
            if key_mask is not None or not _is_tiled(q, k, v, *weights):
                return within_range(plain(call, q, k, v, key_mask), q.dtype)
            if torch.is_grad_enabled() and any(x.requires_grad for x in (q, k, v, *weights)):
                return tiled(call, q, k, v)
            forward = causal.forward if self.geometry.causal else tiles.forward
            return forward(call, q, k, v)[0]

    def _check_features(self, q: Tensor, v: Tensor, weights: Parts) -> None:
        """Find the features of one token, again whenever other parameters learn.

        Where a transform follows `weights` there are no tiles, and nothing is dropped.

        Raises:
            TypeError: they are not `feature_dim`, or have gradients that go elsewhere than to
                `weights`, which tiles would drop.
        """
        if torch.compiler.is_compiling() or not torch.is_grad_enabled():
            return
        if any(map(is_transformed, weights)):
            return
        learned = tuple(map(is_followed, self.parameters()))
        if self.__dict__.get("_learned") == learned:
            return
        dtype, heads = wide_dtype(q.dtype), q.shape[1]
        # Not made of those of the call, which a transform may follow.
        q, v = (torch.zeros(1, heads, 1, x.shape[-1], dtype=dtype, device=x.device) for x in (q, v))
        inputs = *(x.detach() for x in weights), *self.places(0, 1, dtype, q.device)
        keys = as_parts(self.phi_k(q, *inputs))
        found = [*as_parts(self.phi_q(q, *inputs)), *keys]
        keys = tuple(x.detach().mT for x in (keys if self.floor is None else keys[:1]))
        if self.combines:
            found += [x for side in self.combine(tuple(x @ v for x in keys), keys) for x in side]
        self.check_width(sum(x.shape[-2] for x in keys))
        if any(map(is_followed, found)):
            raise TypeError(
                f"{self.name} has learned tensors that its method weights does not return; "
                "features are found tile by tile, and gradients reach what weights returns."
            )
        self.__dict__["_learned"] = learned

    def check_width(self, found: int) -> None:
        """Raise a TypeError unless so many features, over all parts, are `feature_dim`."""
        if found != self.feature_dim:
            raise TypeError(
                f"{self.name}: phi_k returns {found} features, and feature_dim is "
                f"{self.feature_dim}; set it in the constructor, as FLOPs and states need it."
            )

    def _call(self, start: int, q: Tensor, k: Tensor, weights: Parts) -> tiles.Call:
        if self.geometry.causal:
            self._refuse_what_is_not_causal()
        stop = start + max(q.shape[-2], k.shape[-2])
        return tiles.Call(
            core=self,
            num_keys=k.shape[-2],
            weights=weights,
            places=self.places(start, stop, wide_dtype(q.dtype), q.device),
            turn=self.turn(q, k),
        )

    def _refuse_what_is_not_causal(self) -> None:
        kind = type(self)
        given = {
            "eps_on_mean": self.eps_on_mean,
            "floor": self.floor is not None,
            "joint_heads": self.joint_heads,
            "turn": kind.turn is not KernelCore.turn,
            "combine": self.combines,
        }
        for what, is_given in given.items():
            if is_given:
                raise TypeError(f"{self.name}: {what} has no causal form; build with causal=False.")

    def _grouped(
        self, q: Tensor, k: Tensor, v: Tensor, weights: Parts, key_mask: Tensor | None
    ) -> Tensor:
        """Several query heads share one head of keys and values."""
        shared = q.shape[1] // k.shape[1]
        if self.joint_heads:
            k, v = (x.repeat_interleave(shared, dim=1) for x in (k, v))
            return self._attend(q, k, v, weights, key_mask)
        # (B, H_kv, shared, N, D): the first heads of all groups, then the second ones, ...
        by_group = torch.unflatten(q, 1, (-1, shared)).unbind(2)
        each = [torch.unflatten(weight, 0, (-1, shared)).unbind(1) for weight in weights]
        outputs = [
            self._attend(some, k, v, tuple(one[number] for one in each), key_mask)
            for number, some in enumerate(by_group)
        ]
        return torch.stack(outputs, dim=2).flatten(1, 2)

    def query_features(self, q: Tensor) -> Tensor:
        """phi(q): (B, H, N, D) -> (B, H, N, F)."""
        return self._features(self.phi_q, q)

    def key_features(self, k: Tensor) -> Tensor:
        """phi(k): (B, H, M, D) -> (B, H, M, F)."""
        return self._features(self.phi_k, k)

    def _features(self, phi: Any, x: Tensor) -> Tensor:
        places = self.places(0, x.shape[-2], x.dtype, x.device)
        return torch.cat(as_parts(phi(x, *self.weights(x.dtype), *places)), dim=-1)

    def init_state(self, batch_size: int, *, dtype: torch.dtype, device: torch.device) -> Any:
        """Zeros; float32 for half inputs, since thousands of terms are added to it."""
        self._require_recurrent()
        g = self.geometry
        sizes = (batch_size, g.num_heads, self.feature_dim, g.value_dim)
        context = torch.zeros(sizes, dtype=wide_dtype(dtype), device=device)
        key_sum = context.new_zeros(sizes[:3]) if self.divides else None
        return KernelState(context, key_sum)

    def step(
        self, q: Tensor, k: Tensor, v: Tensor, state: Any, *, key_mask: Tensor | None = None
    ) -> tuple[Tensor, Any]:
        """The next T tokens: (B, H, T, D), (B, H, T, D), (B, H, T, E), state."""
        self._require_recurrent()
        call = self._call(state.position, q, k, self._weights(q))
        with without_autocast(q.device.type):
            out, state = plain_causal(call, widen(q), widen(k), widen(v), state, key_mask)
            return within_range(out, q.dtype), state

    def _require_recurrent(self) -> None:
        if not self.capabilities.recurrent:
            raise TypeError(f"{self.name} has no recurrent form.")
        if not self.geometry.causal:
            raise ValueError(
                f"{self.name}: a state was asked for, and causal is False; it is needed True, as "
                "a token sees what came before it."
            )

    def flops(self, shape: CallShape) -> int:
        """Feature maps; keys meet values, queries read, and the normaliser if something divides."""
        kernel = kernel_flops(shape, self.feature_dim, divides=self.divides)
        return self.map_flops(shape) + kernel

    def executed_flops(self, shape: CallShape) -> int:
        """The causal form also writes out the pairs within a chunk."""
        if not shape.causal:
            return self.flops(shape)
        has_pairs = type(self).pairs is not KernelCore.pairs
        pair_dim = shape.head_dim if has_pairs else self.feature_dim
        return self.map_flops(shape) + causal.causal_flops(shape, self.feature_dim, pair_dim)


def _is_tiled(*tensors: Tensor) -> bool:
    """Whether attention of these, q first, runs tile by tile; of no rows there is no tile."""
    dtypes = {x.dtype for x in tensors}
    is_known = dtypes <= _COMPUTED_IN_FLOAT32 or dtypes == {torch.float64}
    return is_known and tensors[0].numel() > 0 and is_eager_cpu(*tensors)
