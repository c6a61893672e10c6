"""Counted calls of a mechanism, and slow algorithms for the same output that waste nothing.

A slow form counts an algorithm that really gave the mechanism's output. So a formula with the same
number is not only consistent: that much work is enough.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from ..base import AttentionLayer, Mechanism
from ..geometry import CallShape, Geometry
from .counting import as_written, missing_formulas
from .forms import gates_of

_SEED = 0
_SPREAD = 0.1
"""Standard deviation of what is added to weights: one that starts as the identity, or as zeros,
would hide its products."""
_ROUNDING = 1e-5
"""Tolerance of a slow form's output in float32, relative to the largest entry."""
_GROUP = 8
"""Number of keys that are probed in one call, so that it fits into the cache."""

aten = torch.ops.aten
_FACTORS = {aten.mm: (0, 1), aten.bmm: (0, 1), aten.addmm: (1, 2), aten.baddbmm: (1, 2)}
_MASK_AND_CAUSAL = {
    aten._scaled_dot_product_flash_attention_for_cpu: (None, 4),
    aten._scaled_dot_product_flash_attention: (None, 4),
    aten._scaled_dot_product_efficient_attention: (3, 6),
    aten._scaled_dot_product_cudnn_attention: (3, 6),
}
_OPAQUE = ("fft", "linalg", "triangular_solve", "cholesky", "lu_", "flex_attention")
"""Parts of names of operators whose products torch's counter does not count."""
_NO_PRODUCT = {aten.linalg_vector_norm}


class NotCallable(Exception):
    """A mechanism cannot be built or called at any of the shapes at which it is counted."""


@dataclass(frozen=True, kw_only=True)
class Sample:
    """A built mechanism with inputs: ``(q, k, v)`` and its gates, or ``(x,)`` for a layer."""

    mechanism: Any
    rebuild: Callable[[Geometry], Any]
    tensors: tuple[Tensor, ...]
    gates: Mapping[str, Tensor] = field(default_factory=dict)

    def call(self) -> Any:
        """Call the mechanism on all of the tensors, with its gates."""
        return self.mechanism(*self.tensors, **self.gates)

    def step(self, tokens: slice, state: Any) -> tuple[Any, Any]:
        """Step over some of the tokens: their output, and the state after them."""
        given, own = (*self.tensors, *self.gates.values()), len(self.tensors)
        # The axis of tokens is counted from the front: a gate may have no axis of channels.
        parts = [x[(*[slice(None)] * (given[0].dim() - 2), tokens)] for x in given]
        gates = dict(zip(self.gates, parts[own:], strict=True))
        out, after = self.mechanism.step(*parts[:own], state, **gates)
        return out, after

    @property
    def shape(self) -> CallShape:
        """Shape of a call on all of the tensors."""
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
    kind: type[Mechanism], geometry: Geometry, batch_size: int = 1, key_len: int | None = None
) -> Sample:
    """A mechanism at its default hyperparameters, with weights near their start, and random inputs.

    The dtype is that of timed calls: an implementation may take another path in a wider one.

    Raises:
        ValueError, TypeError, ImportError: it cannot be built for this geometry.
    """
    dtypes = kind.capabilities.dtypes
    dtype = torch.float32 if "float32" in dtypes else getattr(torch, dtypes[0])

    def rebuild(other: Geometry) -> Any:
        torch.manual_seed(_SEED)
        built = kind(other).to(dtype).eval()
        with torch.no_grad():
            for weight in built.parameters():
                weight.add_(_SPREAD * torch.randn_like(weight))
        return built

    mechanism = rebuild(geometry)
    g = mechanism.geometry
    sizes: list[tuple[int, ...]] = [(batch_size, g.seq_len, g.embed_dim)]
    if not isinstance(mechanism, AttentionLayer):
        keys = g.seq_len if key_len is None else key_len
        lengths, widths = (g.seq_len, keys, keys), (g.head_dim, g.head_dim, g.value_dim)
        sizes = [(batch_size, g.num_heads, *pair) for pair in zip(lengths, widths, strict=True)]
    generator = torch.Generator().manual_seed(_SEED)
    tensors = tuple(torch.randn(size, generator=generator).to(dtype) for size in sizes)
    is_layer = isinstance(mechanism, AttentionLayer)
    gates = {} if is_layer else gates_of(mechanism, tensors)
    return Sample(mechanism=mechanism, rebuild=rebuild, tensors=tensors, gates=gates)


@torch.no_grad()
def callable_sample(
    kind: type[Mechanism], geometry: Geometry, batch_size: int = 1, key_len: int | None = None
) -> Sample:
    """A sample of this geometry, or if need be with another value_dim or more tokens.

    Raises:
        NotCallable: no such sample can be built and called.
    """
    why = ""
    for length in dict.fromkeys((geometry.seq_len, 64, 256)):
        for value_dim in dict.fromkeys((geometry.value_dim, geometry.head_dim)):
            other = replace(geometry, seq_len=length, value_dim=value_dim, grid=(0, 0))
            try:
                sample = make_sample(kind, other, batch_size, key_len)
                sample.call()
                return sample
            except (ValueError, TypeError, RuntimeError, ImportError) as error:
                why = why or f"{type(error).__name__}: {error}".splitlines()[0]
    raise NotCallable(f"cannot be called to be watched: {why}")


class Work(TorchDispatchMode):
    """Counts the work of operators, by torch's formulas and ours for those that torch lacks.

    Attributes:
        flops: two per multiply-add; of a fused kernel those of all pairs, whatever its mask.
        nonzero_flops: those of products without a factor of zero, such as a padded channel or a
            masked weight; valid only with `count_zeros`.
        has_masked_kernel: whether torch's attention was called with a mask or as causal: a kernel
            skips as many hidden pairs as it can, and the counter none.
        opaque: names of operators that may hold an unknown number of products.
    """

    supports_higher_order_operators = True  # FlexAttention is one

    def __init__(self, *, count_zeros: bool = False) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.flops = self.nonzero_flops = 0
        self.has_masked_kernel = False
        self.opaque: set[str] = set()
        self._formulas = {**flop_registry, **missing_formulas()}
        self._count_zeros = count_zeros

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operator and count its FLOPs."""
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        packet = getattr(func, "overloadpacket", func)
        if packet in self._formulas:
            flops = int(self._formulas[packet](*args, **kwargs, out_val=out))
            self.flops += flops
            if packet in _FACTORS and self._count_zeros:
                left, right = (_is_nonzero(args[place]) for place in _FACTORS[packet])
                flops = 2 * int((left @ right).sum())
            elif packet in _MASK_AND_CAUSAL:
                flops = self._fused(*_MASK_AND_CAUSAL[packet], args, kwargs)
            self.nonzero_flops += flops
        elif packet not in _NO_PRODUCT and _is_opaque(func, packet):
            self.opaque.add(str(getattr(packet, "__name__", packet)))
        return out

    def _fused(self, mask_at: int | None, causal_at: int, args: Any, kwargs: Any) -> int:
        """Nonzero FLOPs of a fused kernel: scores and mixed values of the allowed pairs."""
        q, k, v = args[:3]
        mask = kwargs.get("attn_mask")
        if mask_at is not None and len(args) > mask_at:
            mask = args[mask_at]
        is_causal = kwargs.get("is_causal") or (len(args) > causal_at and args[causal_at])
        if not self._count_zeros:
            return 0
        allowed = torch.ones(*q.shape[:-1], k.shape[-2], dtype=torch.float64)
        if is_causal:
            allowed = allowed.tril()
        if mask is not None:
            allowed = allowed * (mask if mask.dtype is torch.bool else mask > -torch.inf)
        channels = allowed * (_is_nonzero(q) @ _is_nonzero(k).transpose(-2, -1))
        return 2 * int(channels.sum() + (allowed @ _is_nonzero(v)).sum())


class _MaskedAttention(TorchFunctionMode):
    """Notes in `work` a masked call of torch's attention, also where it is not a fused kernel."""

    def __init__(self, work: Work) -> None:
        super().__init__()
        self._work = work

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Check the arguments of a function, and call it."""
        kwargs = kwargs or {}
        if func is functional.scaled_dot_product_attention:
            given = dict(zip(("attn_mask", "dropout_p", "is_causal"), args[3:], strict=False))
            given |= kwargs
            is_masked = given.get("is_causal") or given.get("attn_mask") is not None
            self._work.has_masked_kernel |= bool(is_masked)
        return func(*args, **kwargs)


def _is_opaque(func: Any, packet: Any) -> bool:
    """Whether an operator may hold products: by its name, or because it is not one of torch's."""
    is_torchs = getattr(func, "namespace", "aten") in ("aten", "prims", "prim", "profiler")
    return not is_torchs or any(part in str(packet) for part in _OPAQUE)


def _is_nonzero(factor: Tensor) -> Tensor:
    return (factor != 0).double()  # whose sums are whole numbers


@torch.no_grad()
def work_of(call: Callable[[], object], *, count_zeros: bool = False) -> Work:
    """Run a call that has run before, without compilation, and count every operator."""
    work = Work(count_zeros=count_zeros)
    with as_written(), _MaskedAttention(work), work:
        call()
    return work


@dataclass(frozen=True, kw_only=True)
class SlowForm:
    """A slow algorithm and its FLOPs; the formula must agree with a decisive one."""

    name: str
    flops: int
    is_decisive: bool


@torch.no_grad()
def last_step(sample: Sample, num_tokens: int | None = None) -> Callable[[], object]:
    """Call of `step` for the last of some tokens, with the state after those before it."""
    mechanism, first = sample.mechanism, sample.tensors[0]
    last = (num_tokens or first.shape[-2]) - 1
    state = mechanism.init_state(first.shape[0], dtype=first.dtype, device=first.device)
    _, state = sample.step(slice(last), state)
    return lambda: sample.step(slice(last, last + 1), state)


def without_zeros(sample: Sample) -> SlowForm:
    """The call itself, without products that have a factor of zero, by padding or masks."""
    flops = work_of(sample.call, count_zeros=True).nonzero_flops
    return SlowForm(name="without zeros", flops=flops, is_decisive=False)


def token_by_token(sample: Sample) -> SlowForm | None:
    """Sum of one `step` for each token, by the formula that the proof of ``decode`` covers.

    Decisive if a late step takes as much as an early one, as in a recurrence. With a cache of all
    tokens a step may take another path than a whole sequence. None unless the steps take the same,
    or both agree with the formula.
    """
    shape, length = sample.shape, sample.shape.query_len
    at = [replace(shape, query_len=1, key_len=n) for n in range(1, length + 1)]
    needed = [sample.mechanism.decode_flops(one) for one in at]
    early, late = (work_of(last_step(sample, n)).flops for n in (2, length))
    if early != late and (needed[1], needed[-1]) != (early, late):
        return None
    return SlowForm(name="token by token", flops=sum(needed), is_decisive=early == late)


@torch.no_grad()
def query_by_query(sample: Sample) -> SlowForm | None:
    """Sum of one call for each query, by the bidirectional form, with the keys that it may see.

    None if the output differs, if FLOPs are not proportional to pairs, or for a core with gates.
    """
    causal = sample.mechanism
    if sample.gates:
        return None
    one_way = sample.rebuild(replace(causal.geometry, causal=False))
    q, k, v = sample.tensors
    outputs: list[Tensor] = []

    def ask(index: int, keys: int) -> int:
        query = q[:, :, index : index + 1]
        return work_of(lambda: outputs.append(one_way(query, k[:, :, :keys], v[:, :, :keys]))).flops

    per_pair = ask(0, k.shape[-2]) / k.shape[-2]
    outputs.clear()
    counts = [ask(index, index + 1) for index in range(q.shape[-2])]
    if not _agree(torch.cat(outputs, dim=-2), causal(*sample.tensors)):
        return None
    if counts != [per_pair * (index + 1) for index in range(q.shape[-2])]:
        return None
    return SlowForm(name="query by query", flops=sum(counts), is_decisive=True)


@torch.no_grad()
def pair_by_pair(sample: Sample) -> SlowForm | None:
    """Softmax over the pairs that matter, counted one by one; for one head.

    A pair matters if the query's output changes with the key's value. If the pairs that matter
    depend on the data, all visible ones have to be scored first. None if the output is not that of
    a softmax over the pairs that matter. Gates are set to values without effect: executed FLOPs do
    not depend on their values.
    """
    sample = replace(sample, gates=_idle(sample))
    q, k, v = sample.tensors
    groups = torch.arange(k.shape[-2]).split(_GROUP)
    allowed = torch.cat([_changes(sample, q, k, keys) for keys in groups]).T
    scores = (q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5).masked_fill(~allowed, -torch.inf)
    expected, out = scores.softmax(dim=-1).nan_to_num(0.0) @ v, sample.call()
    # A factor per query, such as the share that a sink leaves, is not a matrix product.
    squares = expected.square().sum(dim=-1, keepdim=True).clamp(min=torch.finfo(v.dtype).tiny)
    if not _agree((out * expected).sum(dim=-1, keepdim=True) / squares * expected, out):
        return None
    others = _changes(sample, q.flip(-2), k.flip(-2), groups[0])
    is_fixed = torch.equal(others, allowed[:, groups[0]].T)
    mixed = int(allowed.sum())
    scored = mixed if is_fixed else sample.shape.num_pairs
    return SlowForm(
        name="pair by pair" if is_fixed else "pair by pair, all scored",
        flops=2 * (scored * q.shape[-1] + mixed * v.shape[-1]),
        is_decisive=is_fixed,
    )


def _idle(sample: Sample) -> dict[str, Tensor]:
    """Gates without effect: log decays of 0, and shares of 1."""
    return {
        name: torch.full_like(given, min(1.0, sample.mechanism.gates[name].high))
        for name, given in sample.gates.items()
    }


def _changes(sample: Sample, q: Tensor, k: Tensor, keys: Tensor) -> Tensor:
    """Whether each output changes with the value of each of some keys, (keys, N) bool."""
    count = len(keys)
    values = sample.tensors[2].repeat(count + 1, 1, 1, 1)
    values[torch.arange(count), :, keys] += 1.0
    q, k, *drawn = (x.expand(count + 1, *x.shape[1:]) for x in (q, k, *sample.gates.values()))
    out = sample.mechanism(q, k, values, **dict(zip(sample.gates, drawn, strict=True)))
    difference: Tensor = out[:-1] - out[-1:]
    return difference.abs().amax(dim=(1, 3)) > 0


def _agree(ours: Tensor, theirs: Tensor) -> bool:
    largest = theirs.abs().max()
    return ours.shape == theirs.shape and bool((ours - theirs).abs().max() <= _ROUNDING * largest)
