"""The GLA paper's layer: data-dependent decays, a norm per head and an output gate."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from ..base import Geometry
from ..capabilities import RECURRENT_LAYER
from ..checks import one_of, positive, whole
from ..engines.recurrent_layer import RecurrentLayer
from ..maths.channel_decay import channel_decayed_attention
from ..maths.heads import merge_heads, split_heads
from ..maths.norms import normalise, reference_normalise
from ..precision import float16_in_float32, in_wide_precision, widen
from ..registry import register_attention
from .gla import weights_by_channel


@register_attention(
    "gla_layer",
    title="GLA layer",
    source="Yang et al., 2024, arXiv:2312.06635",
    family="recurrent",
    capabilities=RECURRENT_LAYER,
)
class GlaLayer(RecurrentLayer):
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
        mixed = self.mixed(channel_decayed_attention, scaled, k, v, log_decay)
        return normalise(mixed, self.norm)

    def reference(self, x: Tensor) -> Tensor:
        """With weights, norm and gates written out."""
        q, k, v, r = self.qkvr(x).split(self.widths, dim=-1)
        q, k, v = (split_heads(part, self.geometry.num_heads) for part in (q, k, v))
        alpha = 1 / (1 + (-self._decay_logits(x)).exp())
        mixed = weights_by_channel(q / self.key_dim**0.5, k, alpha.log() / self.temperature) @ v
        normed = merge_heads(reference_normalise(mixed, self.norm))
        return self.proj(normed * r / (1 + (-r).exp()))  # type: ignore[no-any-return]
