"""Multi-head attention around any core: projections, gates, and what papers put around them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from .base import Attention, AttentionLayer, CallShape, Geometry
from .checks import flag, one_of, whole
from .inputs import mask_given
from .maths.heads import merge_heads, split_heads
from .maths.norms import normalise, reference_normalise
from .maths.recurrences.delta_rule import unit_length
from .maths.recurrences.projected import ProjectedGates
from .maths.rotary import turn_pairs
from .maths.shared_heads import SharedHeads, for_every_query_head
from .maths.short_convolution import convolve_tokens, reference_convolve_tokens, short_convolution
from .maths.wide_steps import step_in_float32
from .paper_layers import PAPER_LAYERS
from .precision import float16_in_float32, wide_dtype, widen, within_range
from .registry import build_attention, hyperparameters
from .signatures import recording

_EPS = 1e-5
_NORMS = ("none", "rms", "layer", "gated_rms")
_GATES = ("none", "silu", "sigmoid", "low_rank")


class LayerState(NamedTuple):
    """All that a layer keeps of the tokens before the next.

    Attributes:
        core: the core's state.
        tail: the last tokens before the short convolution, (B, conv_size - 1, channels of q, k and
            v); None without one.
        length: number of kept tokens so far, (B, 1), for rotary positions; None without these.
    """

    core: Any
    tail: Tensor | None
    length: Tensor | None


class MultiHeadAttention(AttentionLayer):
    """Project to q, k and v, mix with any core, project back: (B, N, C) -> (B, N, C).

        q, k, v = silu(convolution(qkv(x)))
        out = proj(head_norm(core(q, k, v, gates(x))) * activation(gate(x)))

    Every core gets the same projections, so none wins by leaner ones; all else is off unless asked
    for. `build_layer` asks for what the paper of a mechanism has.

    >>> from attentions import Geometry, MultiHeadAttention, build_attention
    >>> core = build_attention("nala", Geometry(num_heads=4, head_dim=8, seq_len=49))
    >>> layer = MultiHeadAttention(core)
    >>> layer(torch.randn(2, 49, 32)).shape
    torch.Size([2, 49, 32])

    Args:
        core: the mixing step; its geometry says how wide the projections are.
        bias: whether qkv and proj have one, and projections of gates that are shares.
        gates: ``"learned"`` leaves gates to the core's constants, ``"tokens"`` projects them from
            the tokens, by the `Gate.activation` of each; where a core has an auxiliary loss, from
            detached tokens: that loss trains the maps, and nothing else.
        head_norm: norm of each head's output, ``"rms"`` or ``"layer"``; ``"gated_rms"`` is one of
            all heads behind the output gate, as in Mamba-2.
        conv_size: tokens that a short causal convolution of q, k and v sees before a silu; 0 is the
            silu alone, None neither.
        conv_bias: whether it has a bias.
        output_gate: factor of the output, ``"silu"`` or ``"sigmoid"`` of a projection of the
            tokens, or ``"low_rank"``, a sigmoid of a projection of rank value_dim, as in KDA.
        rope: whether pairs of adjacent channels of q and k turn with the position.
        qk_norm: ``"rms"`` is an RMSNorm of each head's q and k, ``"unit"`` divides by the length.
        skip: whether a learned share of the values is added to each head's output.
        num_groups: heads of q and k that are projected, each for its share of heads; all if None.
        gate_rank: rank of the projections of gates per channel; by the papers if None.
        tokens: the geometry of the tokens, where the heads of q and k are narrower than C / H.
    """

    @recording
    def __init__(
        self,
        core: Attention,
        *,
        bias: bool = True,
        gates: str = "learned",
        head_norm: str = "none",
        conv_size: int | None = None,
        conv_bias: bool = False,
        output_gate: str = "none",
        rope: bool = False,
        qk_norm: str = "none",
        skip: bool = False,
        num_groups: int | None = None,
        gate_rank: int | None = None,
        tokens: Geometry | None = None,
    ) -> None:
        self._name_after(core)
        super().__init__(core.geometry if tokens is None else tokens)
        name, g, channels = self.name, core.geometry, self.geometry.embed_dim
        self.head_norm = one_of(name, "head_norm", head_norm, _NORMS)
        self.output_gate = one_of(name, "output_gate", output_gate, _GATES)
        self.qk_norm = one_of(name, "qk_norm", qk_norm, ("none", "rms", "unit"))
        if flag(name, "rope", rope) and g.head_dim % 2:
            raise ValueError(
                f"{name}: head_dim is {g.head_dim}; an even number is needed with rope=True, which "
                "turns pairs of channels."
            )
        self.rope, self.core = rope, core
        self.counts = [g.num_heads, g.num_kv_heads, g.num_value_heads or g.num_kv_heads]
        self.repeats = num_groups is not None
        if num_groups is not None:
            if g.num_heads % whole(name, "num_groups", num_groups, 1):
                raise ValueError(
                    f"{name}: num_groups is {num_groups}; a divisor of num_heads, {g.num_heads}, "
                    "is needed."
                )
            self.counts[:2] = num_groups, num_groups
        sizes = zip(self.counts, (g.head_dim, g.head_dim, g.value_dim), strict=True)
        heads = g.num_value_heads or g.num_heads
        self.widths, values = [n * size for n, size in sizes], heads * g.value_dim
        self.qkv = nn.Linear(channels, sum(self.widths), bias=bias)
        self.has_silu = conv_size is not None
        size = whole(name, "conv_size", conv_size, 0) if self.has_silu else 0
        self.conv = short_convolution(sum(self.widths), size, bias=conv_bias)
        self.gates = None
        if one_of(name, "gates", gates, ("learned", "tokens")) == "tokens" and core.gates:
            self.gates = ProjectedGates(core, channels, bias=bias, rank=gate_rank)
            for constant in _constants_of(core, list(self.gates)):
                constant.requires_grad_(False)
        self.gate: nn.Module | None = None
        if output_gate == "low_rank":
            down = nn.Linear(channels, g.value_dim, bias=False)
            self.gate = nn.Sequential(down, nn.Linear(g.value_dim, values))
        elif output_gate != "none":
            self.gate = nn.Linear(channels, values, bias=False)
        self.proj = nn.Linear(values, channels, bias=bias)
        # What begins with ones draws no numbers.
        self.norm: nn.RMSNorm | nn.LayerNorm | None = None
        if head_norm != "none":
            kind, width = nn.LayerNorm if head_norm == "layer" else nn.RMSNorm, g.value_dim
            self.norm = kind(values if head_norm == "gated_rms" else width, eps=_EPS)
        both = [nn.RMSNorm(g.head_dim, eps=_EPS) for _ in range(2)]
        self.qk_norms = nn.ModuleList(both) if qk_norm == "rms" else None
        self.skip = nn.Parameter(torch.ones(heads)) if flag(name, "skip", skip) else None
        self.auxiliary: Tensor | None = None

    @float16_in_float32
    def forward(self, x: Tensor, *, key_mask: Tensor | None = None, **gates: Tensor) -> Tensor:
        """(B, N, C) -> (B, N, C); ``gates`` go on to the core in place of its own.

        Hidden tokens are as good as removed.

        Raises:
            ValueError: tokens that do not fit the geometry, or are of another dtype; a mask or a
                gate that the core does not take.
        """
        (q, k, v), _ = self._project(x, key_mask)
        core, k, values, given = self._gated(x, k, v, gates)
        is_learning = self.training and torch.is_grad_enabled()
        if self.gates and self.capabilities.auxiliary_loss and is_learning:
            self.auxiliary = core.auxiliary_loss(q, k, values, **given)
        return self._finish(core(q, k, values, **mask_given(key_mask), **given), v, x)

    def init_state(self, batch_size: int, *, dtype: torch.dtype, device: torch.device) -> Any:
        """The state before the first token, a `LayerState`."""
        state = self.core.init_state(batch_size, dtype=dtype, device=device)
        tail = length = None
        if self.conv is not None:
            sizes = batch_size, self.conv.kernel_size[0] - 1, sum(self.widths)
            tail = torch.zeros(sizes, dtype=wide_dtype(dtype), device=device)
        if self.rope:
            length = torch.zeros(batch_size, 1, dtype=torch.int64, device=device)
        return LayerState(state, tail, length)

    @step_in_float32
    def step(
        self, x: Tensor, state: Any, *, key_mask: Tensor | None = None, **gates: Tensor
    ) -> tuple[Tensor, Any]:
        """The next T tokens: (B, T, C), state -> (B, T, C), state.

        >>> from attentions import Geometry, build_layer
        >>> geometry = Geometry(num_heads=4, head_dim=8, seq_len=9, causal=True)
        >>> layer = build_layer("gla", geometry)
        >>> x = torch.randn(1, 9, 32)
        >>> state = layer.init_state(1, dtype=x.dtype, device=x.device)
        >>> prompt, state = layer.step(x[:, :8], state)
        >>> last, state = layer.step(x[:, 8:], state)
        >>> torch.allclose(last, layer(x)[:, 8:], atol=1e-5)
        True
        """
        if not torch.compiler.is_compiling():
            self._check_inputs((x,), mask_given(key_mask))
            if not isinstance(state, LayerState):
                raise ValueError(
                    f"{self.name}: state is of type {type(state).__name__}; a LayerState is "
                    "needed, as init_state or the step before gave it."
                )
        (q, k, v), kept = self._project(x, key_mask, state)
        core, k, values, given = self._gated(x, k, v, gates)
        mixed, after = core.step(q, k, values, state.core, **mask_given(key_mask), **given)
        return self._finish(mixed, v, x), LayerState(after, *kept)

    def _project(
        self, x: Tensor, key_mask: Tensor | None = None, state: LayerState | None = None
    ) -> tuple[list[Tensor], tuple[Tensor | None, Tensor | None]]:
        """q, k and v, and what a state keeps of them: a tail and a length."""
        tokens, tail, length = self.qkv(x), None, None
        if self.conv is not None:
            before = None if state is None or state.tail is None else state.tail.to(tokens.dtype)
            tokens, tail = convolve_tokens(tokens, self.conv, before, key_mask)
        if self.has_silu:
            tokens = functional.silu(tokens)
        q, k, v = self._heads(tokens)
        if self.qk_norms is not None:
            q, k = (normalise(part, norm) for part, norm in zip((q, k), self.qk_norms, strict=True))  # type: ignore[arg-type]
        elif self.qk_norm == "unit":
            q, k = self._of_unit_length(q, k)
        if self.rope:
            places = torch.arange(x.shape[1], device=x.device)[None]
            if key_mask is not None:
                places = (key_mask.cumsum(dim=1) - 1).clamp(min=0)
            if state is not None:
                assert state.length is not None
                places = places + state.length
                seen = x.shape[1] if key_mask is None else key_mask.sum(dim=1, keepdim=True)
                length = state.length + seen
            q, k = (turn_pairs(part, places[:, None]) for part in (q, k))
        if self.core.capabilities.memory_layout == "bhnd":
            q, k, v = q.contiguous(), k.contiguous(), v.contiguous()
        return [q, k, v], (tail, length)

    def _of_unit_length(self, q: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
        done = getattr(self.core, "normalise_keys", False)
        return unit_length(q), k if done else unit_length(k)

    def _heads(self, tokens: Tensor) -> list[Tensor]:
        """(B, N, channels of q, k and v) -> three of (B, H, N, ...)."""
        parts = zip(tokens.split(self.widths, dim=-1), self.counts, strict=True)
        q, k, v = (split_heads(part, count) for part, count in parts)
        if self.repeats:
            q, k = (for_every_query_head(part, self.counts[2]) for part in (q, k))
        return [q, k, v]

    def _gated(
        self, x: Tensor, k: Tensor, v: Tensor, gates: Mapping[str, Tensor]
    ) -> tuple[Attention, Tensor, Tensor, dict[str, Tensor]]:
        """The core with its keys, values and gates, those that are given in place of others."""
        if self.gates is None:
            return self.core, k, v, dict(gates)
        found, factor = self.gates(x.detach() if self.capabilities.auxiliary_loss else x)
        if factor is None:
            return self.core, k, v, {**found, **gates}
        core = self.core
        if isinstance(core, SharedHeads):  # a factor for each query head
            k, v = (for_every_query_head(part, factor.shape[1]) for part in (k, v))
            core = core.core
        v = within_range(widen(v) * factor.unsqueeze(-1), v.dtype)
        return core, k, v, {**found, **gates}

    def _finish(self, mixed: Tensor, v: Tensor, x: Tensor) -> Tensor:
        """Skip, norm and gate: (B, H, N, E) -> (B, N, C)."""
        if self.skip is None and self.norm is None and self.gate is None:
            return self.proj(merge_heads(mixed))  # type: ignore[no-any-return]
        out = widen(mixed)
        if self.skip is not None:
            values = for_every_query_head(v, mixed.shape[1])
            out = out + widen(values) * widen(self.skip)[:, None, None]
        if self.norm is not None and self.head_norm != "gated_rms":
            out = normalise(out, self.norm)
        out = merge_heads(out)
        if self.gate is not None:
            gate = widen(self.gate(x))
            out = out * (functional.silu(gate) if self.output_gate == "silu" else gate.sigmoid())
        if self.norm is not None and self.head_norm == "gated_rms":
            out = normalise(out, self.norm)
        return self.proj(within_range(out, mixed.dtype))  # type: ignore[no-any-return]

    def reference(self, x: Tensor, **gates: Tensor) -> Tensor | None:
        """`forward` around the core's slow form, with convolution, norm and gate written out.

        The maps of gates are the layer's. None if the core has no slow form.
        """
        (q, k, v), _ = self._project(x)
        if self.conv is not None and self.qk_norm != "rms" and not self.rope:
            tokens = reference_convolve_tokens(self.qkv(x), self.conv)
            q, k, v = self._heads(tokens / (1 + (-tokens).exp()))
            if self.qk_norm == "unit":
                q, k = self._of_unit_length(q, k)
        core, k, values, given = self._gated(x, k, v, gates)
        mixed = core.reference(q, k, values, **given)
        if mixed is None:
            return None
        if self.skip is not None:
            mixed = mixed + for_every_query_head(v, mixed.shape[1]) * self.skip[:, None, None]
        is_late = self.head_norm == "gated_rms"
        if self.norm is not None and not is_late:
            mixed = reference_normalise(mixed, self.norm)
        out = merge_heads(mixed)
        if self.gate is not None:
            gate = self.gate(x)
            out = out * (gate if self.output_gate == "silu" else 1) / (1 + (-gate).exp())
        if self.norm is not None and is_late:
            out = reference_normalise(out, self.norm)
        return self.proj(out)  # type: ignore[no-any-return]

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Fill all tensors, the core's too, as a new layer of these settings has them."""
        if type(self) is not MultiHeadAttention:
            super().reset_parameters()
            return
        self.core.reset_parameters()
        fresh = MultiHeadAttention(self.core, **self._settings)
        filled = dict(fresh.named_parameters())
        for name, parameter in self.named_parameters():
            parameter.copy_(filled[name])

    def _around_flops(self, shape: CallShape) -> int:
        """FLOPs of everything but the core: two per weight and token."""
        around = [m for name, m in self.named_modules() if name.split(".")[0] != "core"]
        weights = [m.weight.numel() for m in around if isinstance(m, nn.Linear | nn.Conv1d)]
        return 2 * shape.batch_size * shape.query_len * sum(weights)

    def _core_shape(self, shape: CallShape) -> CallShape:
        g = self.core.geometry
        return replace(shape, head_dim=g.head_dim, value_dim=g.value_dim)

    def flops(self, shape: CallShape) -> int:
        """Projections, convolution and the core."""
        return self._around_flops(shape) + self.core.flops(self._core_shape(shape))

    def executed_flops(self, shape: CallShape) -> int:
        """Projections, convolution and what the core executes."""
        return self._around_flops(shape) + self.core.executed_flops(self._core_shape(shape))

    def decode_flops(self, shape: CallShape) -> int:
        """Projections and convolution of one token, and the core's step."""
        one = self._around_flops(replace(shape, query_len=1))
        return one + self.core.decode_flops(self._core_shape(shape))


def _constants_of(core: Any, given: Collection[str]) -> list[nn.Parameter]:
    """Parameters of a core that are not used where these gates are given."""
    core = core.core if isinstance(core, SharedHeads) else core
    parameters, g = list(core.parameters()), core.geometry
    if not parameters or not hasattr(core, "learned_gates"):
        return []
    with torch.enable_grad():
        learned = core.learned_gates(parameters[0].new_zeros(1, g.num_heads, 1, g.head_dim))
        made = [x.sum() for name, x in learned.items() if name in given and x.requires_grad]
        if not made:
            return []
        slopes = torch.autograd.grad(made, parameters, allow_unused=True)
    return [p for p, slope in zip(parameters, slopes, strict=True) if slope is not None]


_SETTINGS = (
    *("bias", "gates", "head_norm", "conv_size", "conv_bias", "output_gate", "rope", "qk_norm"),
    *("skip", "num_groups", "gate_rank"),
)


def build_layer(name: str, geometry: Geometry, **settings: Any) -> AttentionLayer:
    """Any mechanism as a layer: its own if it is one, else `MultiHeadAttention` around it.

    A gated mechanism gets its gates from the tokens, and norm, convolution and output gate as its
    paper's layer has them, unless said otherwise (`paper_layers`). Settings that the mechanism
    takes itself, such as the ``rope`` of `nala`, are the mechanism's.

    >>> from attentions import Geometry, build_layer
    >>> geometry = Geometry(num_heads=4, head_dim=8, seq_len=49, causal=True)
    >>> layer = build_layer("kda", geometry, output_gate="silu", negative_eigenvalues=True)
    >>> layer.conv.kernel_size, layer.output_gate, layer.core.most
    ((4,), 'silu', 2.0)
    >>> build_layer("kda", geometry, gates="learned").gates is None
    True

    Raises:
        ValueError: as `build_attention`, and a setting of the layer that it refuses.
        TypeError: a setting that neither takes.
    """
    own = hyperparameters(name)
    around = {k: v for k, v in settings.items() if k in _SETTINGS and k not in own}
    mechanism = build_attention(
        name, geometry, **{k: v for k, v in settings.items() if k not in around}
    )
    if isinstance(mechanism, AttentionLayer):
        if around:
            raise TypeError(
                f"{name} owns its projections and takes no {next(iter(around))!r}. It takes: "
                f"{', '.join(own) or 'none'}."
            )
        return mechanism
    return MultiHeadAttention(mechanism, **{**PAPER_LAYERS.get(name, {}), **around})
