"""Gated linear attention: a decay per token and key channel, as a core and as the paper's layer."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..base import AttentionLayer, CallShape, Geometry
from ..capabilities import Capabilities
from ..checks import one_of, positive, whole
from ..maths.channel_decay import channel_chunked_flops, channel_decayed_attention
from ..maths.decay import decayed_flops
from ..maths.gates import ERASED, hide_steps, log_decay_gate
from ..maths.heads import merge_heads, split_heads
from ..maths.masks import hide_keys
from ..maths.norms import normalise, reference_normalise
from ..maths.recurrent import MatrixState, from_nothing
from ..precision import float16_in_float32, in_wide_precision, step_in_wide_precision, widen
from ..registry import register_attention

_SOURCE = "Yang et al., 2024, arXiv:2312.06635"


@register_attention(
    "gla",
    title="GLA (gated linear attention)",
    source=_SOURCE,
    family="recurrent",
    capabilities=Capabilities(
        bidirectional=False,
        causal=True,
        recurrent=True,
        masks=frozenset({"padding"}),
        gates=("log_decay",),
        position_free=False,
    ),
)
class Gla(MatrixState):
    """S_t = diag(exp(g_t)) S_{t-1} + k_t v_t^T and out_t = S_t^T q_t / sqrt(head_dim).

    ``log_decay``, (B, H, N, D), is g_t, the logarithm of the paper's alpha_t. Without it each key
    channel of a head has one decay that is learned, g = log sigmoid(decay_logit) / temperature. It
    starts at decay_logit = 0, where the projection that computes it in `gla_layer` starts on
    average.

    Hidden tokens neither write to the state nor decay it, as if they were removed. A query whose
    keys are all hidden gets zeros.

    Hazards:
        - A chunked form that divides by the decay of a chunk's start overflows; here only decays
          from a key to a later query are formed, which are at most 1.

    Differences:
        - The paper's recurrence has no 1/sqrt(head_dim), the authors' code has: ``scale=1`` leaves
          it out.

    Args:
        geometry: the shape to build for; causal.
        temperature: slows the learned decay; 16 in paper and code.
        scale: factor of the queries; head_dim^(-1/2) if None.
    """

    recurrence = staticmethod(channel_decayed_attention)

    def __init__(
        self, geometry: Geometry, temperature: float = 16.0, scale: float | None = None
    ) -> None:
        super().__init__(geometry)
        self.temperature = positive(self.name, "temperature", temperature)
        self.scale = self._scale(scale)
        self.decay_logit = nn.Parameter(torch.zeros(geometry.num_heads, geometry.head_dim))

    @in_wide_precision
    def forward(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        *,
        log_decay: Tensor | None = None,
        key_mask: Tensor | None = None,
    ) -> Tensor:
        """(B, H, N, D), (B, H, N, D), (B, H, N, E) -> (B, H, N, E)."""
        return self._mix(q, k, v, log_decay, key_mask=key_mask)

    def _inputs(
        self, q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor | None, *, key_mask: Tensor | None
    ) -> tuple[Tensor, ...]:
        k = hide_keys(self.name, k, key_mask)
        return q * self.scale, k, v, hide_steps(self._log_decay(q, log_decay), key_mask)

    def _log_decay(self, q: Tensor, given: Tensor | None) -> Tensor:
        """(B, H, N, D) as given, or else as learned, (1, H, N, D)."""
        if given is not None:
            return log_decay_gate(self.name, given, q.shape)
        learned = functional.logsigmoid(widen(self.decay_logit)) / self.temperature
        return learned.clamp(min=ERASED)[None, :, None].expand(-1, -1, q.shape[2], -1)

    @step_in_wide_precision
    def step(
        self, q: Tensor, k: Tensor, v: Tensor, state: Tensor, *, log_decay: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """The next T tokens: (B, H, T, D), (B, H, T, D), (B, H, T, E), state."""
        return self._continue(q, k, v, state, log_decay)

    def reference(
        self, q: Tensor, k: Tensor, v: Tensor, *, log_decay: Tensor | None = None
    ) -> Tensor:
        """The N x N weights written out, channel by channel."""
        return _written_out(q * self.scale, k, self._log_decay(q, log_decay).to(q.dtype)) @ v

    def flops(self, shape: CallShape) -> int:
        """Keys meet values and queries read, token by token."""
        return decayed_flops(shape)

    def executed_flops(self, shape: CallShape) -> int:
        """The chunked form also writes out the pairs within a chunk."""
        return channel_chunked_flops(shape)


def _written_out(q: Tensor, k: Tensor, log_decay: Tensor) -> Tensor:
    """N x N weights, one key channel after the other."""
    weights = q.new_zeros(*q.shape[:3], q.shape[2])
    total = log_decay.cumsum(dim=-2)
    for channel in range(q.shape[-1]):
        left = total[..., :, None, channel] - total[..., None, :, channel]
        pairs = q[..., :, None, channel] * k[..., None, :, channel]
        weights = weights + (pairs * left.tril().exp()).tril()
    return weights


@register_attention(
    "gla_layer",
    title="GLA layer",
    source=_SOURCE,
    family="recurrent",
    capabilities=Capabilities(
        bidirectional=False,
        causal=True,
        position_free=False,
        heads_independent=False,
        scopes=("layer",),
    ),
)
class GlaLayer(AttentionLayer):
    """GLA with decays that the data choose, a norm per head and an output gate (section 4.4).

        q, k, v, r = qkvr(x)
        g = log sigmoid(decay(x)) / temperature          decay(x) = W_2 W_1 x + b
        out = proj(norm(gla(q, k, v, g)) * silu(r))

    Keys and queries are narrower than values by default, as in paper and code, which makes the
    layer as large as softmax attention's.

    Hazards:
        - Those of its core, `gla`.

    Differences:
        - The paper normalises a head's output by a LayerNorm, the authors' code by an RMSNorm:
          ``norm`` says which.

    Args:
        geometry: the shape to build for; causal. Keys have expand_k * head_dim channels per head.
        expand_k: width of the keys; expand_k * head_dim must be a whole number.
        gate_rank: rows of W_1.
        temperature: slows the decay.
        norm: what normalises a head's output, ``"rms"`` as in the authors' code or ``"layer"``, a
            LayerNorm, as in the paper.
    """

    def __init__(
        self,
        geometry: Geometry,
        expand_k: float = 0.5,
        gate_rank: int = 16,
        temperature: float = 16.0,
        norm: str = "rms",
    ) -> None:
        super().__init__(geometry)
        key_dim = positive(self.name, "expand_k", expand_k) * geometry.head_dim
        if not key_dim.is_integer() or key_dim >= 2**31:
            raise ValueError(
                f"{self.name}: expand_k is {expand_k}; a number is needed whose product with "
                f"head_dim, {geometry.head_dim}, is whole, and less than 2^31."
            )
        self.key_dim = int(key_dim)
        self.temperature = positive(self.name, "temperature", temperature)
        one_of(self.name, "norm", norm, ("rms", "layer"))
        channels, heads = geometry.embed_dim, geometry.num_heads
        keys, values = heads * self.key_dim, heads * geometry.value_dim
        self.widths = [keys, keys, values, values]
        self.qkvr = nn.Linear(channels, sum(self.widths), bias=False)
        whole(self.name, "gate_rank", gate_rank, 1)
        self.decay_down = nn.Linear(channels, gate_rank, bias=False)
        self.decay_up = nn.Linear(gate_rank, keys)
        self.norm = (nn.RMSNorm if norm == "rms" else nn.LayerNorm)(geometry.value_dim, eps=1e-5)
        self.proj = nn.Linear(values, channels, bias=False)

    @float16_in_float32
    def forward(self, x: Tensor) -> Tensor:
        """(B, N, C) -> (B, N, C)."""
        q, k, v, r = self.qkvr(x).split(self.widths, dim=-1)
        q, k, v = (split_heads(part, self.geometry.num_heads) for part in (q, k, v))
        log_decay = functional.logsigmoid(widen(self._decay_logits(x))) / self.temperature
        mixed = self._mix(q, k, v, log_decay=log_decay)
        return self.proj(merge_heads(mixed) * functional.silu(r))  # type: ignore[no-any-return]

    def _decay_logits(self, x: Tensor) -> Tensor:
        """W_2 W_1 x + b, (B, H, N, D)."""
        return split_heads(self.decay_up(self.decay_down(x)), self.geometry.num_heads)

    @in_wide_precision
    def _mix(self, q: Tensor, k: Tensor, v: Tensor, *, log_decay: Tensor) -> Tensor:
        scaled = q * self.key_dim**-0.5
        mixed = from_nothing(channel_decayed_attention, scaled, k, v, log_decay)
        return normalise(mixed, self.norm)

    def reference(self, x: Tensor) -> Tensor:
        """With weights, norm and gates written out."""
        q, k, v, r = self.qkvr(x).split(self.widths, dim=-1)
        q, k, v = (split_heads(part, self.geometry.num_heads) for part in (q, k, v))
        alpha = 1 / (1 + (-self._decay_logits(x)).exp())
        mixed = _written_out(q / self.key_dim**0.5, k, alpha.log() / self.temperature) @ v
        normed = merge_heads(reference_normalise(mixed, self.norm))
        return self.proj(normed * r / (1 + (-r).exp()))  # type: ignore[no-any-return]

    def _core_shape(self, shape: CallShape) -> CallShape:
        return replace(shape, head_dim=self.key_dim, value_dim=self.geometry.value_dim)

    def _projection_flops(self, shape: CallShape) -> int:
        layers = (self.qkvr, self.decay_down, self.decay_up, self.proj)
        weights = sum(layer.weight.numel() for layer in layers)
        return 2 * shape.batch_size * shape.query_len * weights

    def flops(self, shape: CallShape) -> int:
        """Projections and the recurrence."""
        return self._projection_flops(shape) + decayed_flops(self._core_shape(shape))

    def executed_flops(self, shape: CallShape) -> int:
        """Projections and the chunked form."""
        return self._projection_flops(shape) + channel_chunked_flops(self._core_shape(shape))
