"""The one interface: `Attention` mixes values, `AttentionLayer` owns its projections as well."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from .capabilities import Capabilities, Gate
from .checks import equal_lengths
from .geometry import CallShape, Geometry
from .inputs import check_devices, check_heads, check_tokens
from .maths.pairs.documents import by_document
from .maths.pairs.masks import check_dense_mask, check_key_mask, hide_keys
from .signatures import keywords_of, refuse_unknown
from .steps import map_tensors, with_checked_sizes, with_checked_tokens

__all__ = ["Attention", "AttentionLayer", "CallShape", "Geometry", "Mechanism"]


class Mechanism(nn.Module, ABC):
    """Base of cores and layers: a geometry, and costs that follow from a shape.

    The class attributes are set by `register_attention`.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    source: ClassVar[str]
    family: ClassVar[str] = "other"
    capabilities: ClassVar[Capabilities]

    _settings: Mapping[str, Any] = {}

    def extra_repr(self) -> str:
        """The shape it is built for, and the hyperparameters that it was given.

        >>> from attentions import Geometry, build_attention
        >>> build_attention("nala", Geometry(num_heads=2, head_dim=8, seq_len=49), lam=2.0)
        Nala(heads=2, head_dim=8, lam=2.0)
        """
        g = self.geometry
        shape: dict[str, Any] = {"heads": g.num_heads, "head_dim": g.head_dim}
        shape |= {"causal": True} if g.causal else {}
        return ", ".join(f"{name}={value!r}" for name, value in {**shape, **self._settings}.items())

    def __init__(self, geometry: Geometry) -> None:
        super().__init__()
        self.geometry = geometry
        self._refuse_form(geometry)

    def _refuse_form(self, geometry: Geometry) -> None:
        """Raise a ValueError for a form that is not claimed; a layer asks before its core does."""
        can = self.capabilities
        if geometry.causal and not can.causal:
            raise ValueError(f"{self.name} has no causal form; build it with causal=False.")
        if not geometry.causal and not can.bidirectional:
            raise ValueError(f"{self.name} is causal only; build it with causal=True.")

    def __call__(self, *inputs: Any, **keywords: Any) -> Tensor:
        """Check the arguments, then run `forward`; nothing looks at its result.

        A check reads types, sizes, dtypes and devices, never values: a few microseconds, and no
        synchronisation. Compiled code has none.

        Raises:
            ValueError: tensors that do not fit the geometry, or each other; a dtype, a mask or a
                gate that the mechanism does not take.
        """
        if not torch.compiler.is_compiling():
            if keywords:
                refuse_unknown(self.name, keywords, _keywords_of(type(self)))
            self._check_inputs(inputs, keywords)
        out: Tensor = super().__call__(*self._prepared(inputs, keywords), **keywords)
        return out

    def _prepared(self, inputs: Sequence[Any], keywords: dict[str, Any]) -> Sequence[Any]:
        """Positional arguments of `forward`; those taken from keywords are taken out of them."""
        return inputs

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Fill all tensors, those of its children too, as a new module of these settings has them.

        So a module that was built on ``meta`` and got memory by `to_empty` begins as any other, and
        under the same seed with the same values. For plain tensors: a model is sharded later.

        >>> from attentions import Geometry, build_attention
        >>> with torch.device("meta"):
        ...     core = build_attention("flatten", Geometry(num_heads=2, head_dim=8, seq_len=49))
        >>> core = core.to_empty(device="cpu")
        >>> core.reset_parameters()
        >>> bool(core.scale.any())
        False
        """
        fresh = type(self)(self.geometry, **self._settings)
        filled = dict(fresh.named_parameters()) | dict(fresh.named_buffers())
        for name, tensor in (*self.named_parameters(), *self.named_buffers()):
            tensor.copy_(filled[name])

    def no_weight_decay(self) -> set[str]:
        """Names of parameters that decay would pull from their meaning: rates, sinks, biases.

        All but weights of linear maps and convolutions. A method of this name is what timm asks a
        whole model for.
        """
        return {
            name
            for name, x in self.named_parameters()
            if x.dim() < 2 or not name.rpartition(".")[2].startswith(("weight", "proj_"))
        }

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


@cache
def _keywords_of(cls: type[Mechanism]) -> tuple[str, ...] | None:
    """Keywords of `forward`; None if it takes anything."""
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

    gate_axes: Mapping[str, int] = {}
    """Sizes of the axes of its gates that are neither batch, heads, tokens nor channels."""

    shares_heads: bool = False
    """Whether `forward` takes fewer heads of keys and values than of queries, so that nothing is
    copied around it."""

    def __init__(self, geometry: Geometry) -> None:
        super().__init__(geometry)
        self.gates: dict[str, Gate] = dict(self.capabilities.gates)

    def gate_shape(self, name: str, batch_size: int, num_tokens: int) -> tuple[int, ...]:
        """The sizes of a gate of so many tokens.

        >>> from attentions import Geometry, build_attention
        >>> geometry = Geometry(num_heads=2, head_dim=8, seq_len=5, causal=True)
        >>> build_attention("gla", geometry).gate_shape("log_decay", 3, 5)
        (3, 2, 5, 8)
        """
        return self._sizes(self.gates[name], batch_size, num_tokens)

    def __call__(self, *inputs: Any, cu_seqlens: Tensor | None = None, **keywords: Any) -> Tensor:
        """Mix values, as `forward`; see `Mechanism.__call__` for what is checked.

        Args:
            inputs: q, k and v.
            cu_seqlens: (S + 1,) int32 or int64, for a core that claims ``packs``: where each of S
                sequences begins in the one row of a batch, and the end, as in flash-attention. Each
                is computed as in a call of its own.
            keywords: masks and gates.
        """
        if cu_seqlens is None:
            return super().__call__(*inputs, **keywords)
        if not self.capabilities.packs or keywords.get("mask") is not None:
            what = "with a mask of pairs" if self.capabilities.packs else "in it"
            raise ValueError(
                f"{self.name}: cu_seqlens was given, which has no form {what}; a call for each "
                "sequence is needed."
            )
        given = {name: x for name, x in keywords.items() if x is not None}
        qkv = dict(zip("qkv", inputs, strict=False))
        qkv |= {x: given.pop(x) for x in "qkv" if x in given}
        if len(qkv) < 3:
            return super().__call__(*inputs, **keywords)  # Python says which is missing
        self._check_inputs([qkv[x] for x in "qkv"], {})
        axes = {name: gate.shape.index("n") for name, gate in self.gates.items()} | {"key_mask": 1}
        return by_document(self.name, super().__call__, qkv, cu_seqlens, axes, given)

    def _sizes(self, gate: Gate, batch_size: int, num_tokens: int) -> tuple[int, ...]:
        g = self.geometry
        sizes = {"b": batch_size, "h": g.num_heads, "n": num_tokens, "d": g.head_dim}
        sizes |= {"e": g.value_dim, "o": 1, **self.gate_axes}
        return tuple(sizes[axis] for axis in gate.shape)

    def __init_subclass__(cls, **keywords: Any) -> None:
        """Put checks before `step` and `init_state`; before `forward` stands `__call__`."""
        super().__init_subclass__(**keywords)
        if "step" in cls.__dict__:
            cls.step = with_checked_tokens(cls.step)  # type: ignore[method-assign]
        if "init_state" in cls.__dict__:
            cls.init_state = with_checked_sizes(cls.init_state)  # type: ignore[method-assign]

    def _prepared(self, inputs: Sequence[Any], keywords: dict[str, Any]) -> Sequence[Any]:
        """Inputs with zeros for hidden keys and values: 0 times NaN would be NaN."""
        key_mask = keywords.get("key_mask")
        if key_mask is None:
            return inputs
        found = dict(zip("qkv", inputs, strict=False))
        found |= {x: keywords.pop(x) for x in "qkv" if x in keywords}
        hidden = "qkv" if self.capabilities.queries_write else "kv"
        return [
            hide_keys(self.name, x, key_mask) if name in hidden else x for name, x in found.items()
        ]

    @abstractmethod
    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """(B, H, N, D), (B, H, M, D), (B, H, M, E) -> (B, H, N, E)."""

    def _check_inputs(self, inputs: Sequence[Any], keywords: Mapping[str, Any]) -> None:
        if len(inputs) < 3:
            rest = ("q", "k", "v")[len(inputs) :]
            inputs = [*inputs, *(keywords[name] for name in rest if name in keywords)]
        if len(inputs) == 3:
            q, k, v = inputs
            check_heads(self.name, self.geometry, self.capabilities.dtypes, q, k, v)
            if self.geometry.causal:
                equal_lengths(self.name, q, k, "the causal form")
            elif not self.capabilities.cross:
                equal_lengths(self.name, q, k, "it")
            if keywords:
                self._check_keywords(q, k, keywords)

    def _check_keywords(self, q: Tensor, k: Tensor, keywords: Mapping[str, Any]) -> None:
        masks = self.capabilities.masks
        if "padding" in masks:
            check_key_mask(self.name, keywords.get("key_mask"), k)
        if "dense" in masks:
            check_dense_mask(self.name, keywords.get("mask"), q, k)
        check_devices(self.name, q, keywords)

    def _check_step(self, q: Tensor, k: Tensor, v: Tensor) -> None:
        check_heads(self.name, self.geometry, self.capabilities.dtypes, q, k, v)
        equal_lengths(self.name, q, k, "a step")

    def _empty_state_like(self, q: Tensor, k: Tensor, device: torch.device) -> Any:
        """The state that the first step of such tokens needs."""
        return self.init_state(q.shape[0], dtype=q.dtype, device=device)

    def reference(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor | None:
        """The same function in its slow, obvious form, for checking `forward`; None if not given.

        Called with float64 tensors. It must not share the fast path's code.
        """
        return None

    def keys_kept(self, q: Tensor, k: Tensor, v: Tensor, **gates: Tensor) -> Tensor | None:
        """How many keys each query of a call attends to, broadcasts to (B, H, N); None for all.

        Of a sparse mechanism; masks are not asked.
        """
        return None

    def auxiliary_loss(self, q: Tensor, k: Tensor, v: Tensor, **gates: Tensor) -> Tensor:
        """A loss to be added to a model's own; only if ``capabilities.auxiliary_loss``."""
        raise TypeError(f"{self.name} has no auxiliary loss.")

    def init_state(self, batch_size: int, *, dtype: torch.dtype, device: torch.device) -> Any:
        """An empty state for `step`; only if ``capabilities.recurrent``."""
        raise self._without("init_state")

    def step(
        self, q: Tensor, k: Tensor, v: Tensor, state: Any, *_: Any, **gates: Any
    ) -> tuple[Tensor, Any]:
        """Take the next T tokens: one while decoding, a prompt all at once or in parts.

        (B, H, T, D), (B, H, T, D), (B, H, T, E), state -> (B, H, T, E), state.

        A mechanism that claims ``padding`` masks takes ``key_mask``, (B, T), False for tokens to
        hide, here and in all later steps: prompts of unequal length stand in one batch with hidden
        tokens before them. Positions count from a sequence's own first token.

        The state that is given is used up: the one returned may lie in the same memory. The same
        step can be taken again, for instance to time it, and uses up what it gave before; a state
        that is used up is refused. To go two ways on from one state, as beam search does, let each
        go on from its own `clone_state`. Gradients reach earlier steps; for them a cache
        of keys is copied at each step, so decode under `torch.no_grad`.

        Not a call of the module: torch runs no forward hooks.
        """
        raise self._without("step")

    def _without(self, method: str) -> TypeError:
        """The refusal of a recurrent form, also of one that is claimed and not written."""
        unwritten = f": it claims recurrent=True and defines no `{method}`"
        return TypeError(
            f"{self.name} has no recurrent form{unwritten * self.capabilities.recurrent}."
        )

    @staticmethod
    def clone_state(state: Any) -> Any:
        """Copy of a state, in memory of its own, which a step of the original leaves as it is.

        >>> from attentions import Geometry, build_attention
        >>> geometry = Geometry(num_heads=2, head_dim=8, seq_len=5, causal=True)
        >>> core = build_attention("softmax", geometry)
        >>> start = core.init_state(1, dtype=torch.float32, device=torch.device("cpu"))
        >>> kept = core.clone_state(start)
        >>> _, after = core.step(*torch.randn(3, 1, 2, 1, 8), start)
        >>> bool(after.k.any()), bool(kept.k.any())
        (True, False)
        """
        return map_tensors(state, Tensor.clone)


class AttentionLayer(Mechanism):
    """A mechanism whose identity is in its projections: it maps tokens to tokens.

    >>> from attentions import Geometry, build_attention
    >>> layer = build_attention("mla", Geometry(num_heads=2, head_dim=8, seq_len=5))
    >>> layer(torch.randn(1, 5, 16)).shape
    torch.Size([1, 5, 16])
    """

    def _name_after(self, core: Attention) -> None:
        """Take over a core's name and claims, unless this layer is registered itself."""
        if not hasattr(type(self), "name"):
            can = replace(core.capabilities, scopes=("layer",), heads_independent=False)
            self.name, self.title, self.source = core.name, core.title, core.source  # type: ignore[misc]
            self.family, self.capabilities = core.family, can  # type: ignore[misc]

    @abstractmethod
    def forward(self, x: Tensor) -> Tensor:
        """(B, N, C) -> (B, N, C)."""

    def _check_inputs(self, inputs: Sequence[Any], keywords: Mapping[str, Any]) -> None:
        if "x" in keywords:
            inputs = [*inputs, keywords["x"]]
        if len(inputs) == 1:
            dtypes = self.capabilities.dtypes
            check_tokens(self.name, self.geometry, dtypes, inputs[0], self.parameters())
            check_key_mask(self.name, keywords.get("key_mask"), inputs[0])
            check_devices(self.name, inputs[0], keywords)

    def reference(self, x: Tensor) -> Tensor | None:
        """The same function in its slow, obvious form, as for `Attention`; None if not given."""
        return None

    def init_state(self, batch_size: int, *, dtype: torch.dtype, device: torch.device) -> Any:
        """An empty state for `step`; only if ``capabilities.recurrent``."""
        raise TypeError(f"{self.name} has no recurrent form.")

    def step(self, x: Tensor, state: Any) -> tuple[Tensor, Any]:
        """Take the next T tokens, (B, T, C), and give their outputs and the state after them."""
        raise TypeError(f"{self.name} has no recurrent form.")
