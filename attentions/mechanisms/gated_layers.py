"""Layers of papers around gated cores, under names of their own: settings of one layer."""

from __future__ import annotations

from dataclasses import replace

from ..base import Geometry
from ..capabilities import RECURRENT_LAYER
from ..checks import flag, one_of, positive, whole
from ..layer import MultiHeadAttention
from ..paper_layers import PAPER_LAYERS
from ..registry import register_attention
from .gated_deltanet import GatedDeltaNet
from .gla import Gla
from .head_decay import Mamba2Ssd
from .kda import Kda


@register_attention(
    "gla_layer",
    title="GLA layer",
    source="Yang et al., 2024, arXiv:2312.06635",
    family="recurrent",
    capabilities=RECURRENT_LAYER,
)
class GlaLayer(MultiHeadAttention):
    """GLA with decays that the data choose, a norm per head and an output gate (section 4.4).

        q, k, v = qkv(x)
        g = log sigmoid(decay(x)) / temperature          decay(x) = W_2 W_1 x + b
        out = proj(norm(gla(q, k, v, g)) * silu(gate(x)))

    It is ``build_layer("gla", ...)`` with keys and queries that are narrower than values by
    default, as in paper and code, which makes it as large as softmax attention's layer.

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
        self._refuse_form(geometry)
        key_dim = positive(self.name, "expand_k", expand_k) * geometry.head_dim
        if not key_dim.is_integer() or key_dim >= 2**31:
            raise ValueError(
                f"{self.name}: expand_k is {expand_k}; a number is needed whose product with "
                f"head_dim, {geometry.head_dim}, is whole, and less than 2^31."
            )
        positive(self.name, "temperature", temperature)
        settings = {"head_norm": one_of(self.name, "norm", norm, ("rms", "layer"))}
        rank = whole(self.name, "gate_rank", gate_rank, 1)
        core = Gla(replace(geometry, head_dim=int(key_dim)), temperature)
        layer = {**PAPER_LAYERS["gla"], **settings}
        super().__init__(core, tokens=geometry, gate_rank=rank, **layer)


@register_attention(
    "kda_layer",
    title="KDA layer",
    source="Kimi Team, 2025, Kimi Linear, arXiv:2510.26692",
    family="recurrent",
    capabilities=RECURRENT_LAYER,
)
class KdaLayer(MultiHeadAttention):
    """KDA with gates that the data choose, short convolution, norm and output gate.

        q, k, v = silu(convolution(qkv(x)))              q, k of unit length per head
        beta = sigmoid(b(x))         g = -exp(log_rate_h) softplus(decay(x) + step_bias)
        out = proj(norm(kda(q, k, v, beta, g)) * sigmoid(gate(x)))

    ``decay`` and ``gate`` are pairs of maps with value_dim numbers between them. It is
    ``build_layer("kda", ...)``.

    Hazards:
        - Those of its core, `kda`; keys are normalised here, so its state is bounded.

    Differences:
        - The authors draw rates and steps at random from their ranges; here they are spaced evenly,
          slow ones first.
        - Their "safe gate", a decay with a lower bound, and groups of value heads are not offered.

    Args:
        geometry: the shape to build for; causal.
        conv_size: tokens that the convolution sees; 0 leaves it out.
    """

    def __init__(self, geometry: Geometry, conv_size: int = 4) -> None:
        self._refuse_form(geometry)
        super().__init__(Kda(geometry), **{**PAPER_LAYERS["kda"], "conv_size": conv_size})


@register_attention(
    "gated_deltanet_layer",
    title="Gated DeltaNet layer",
    source="Yang et al., 2025, arXiv:2412.06464",
    family="recurrent",
    capabilities=RECURRENT_LAYER,
)
class GatedDeltaNetLayer(MultiHeadAttention):
    """Gated DeltaNet with gates that the data choose, short convolution, norm and output gate.

        q, k, v = silu(convolution(qkv(x)))              q, k of unit length per head
        beta = sigmoid(b(x))         g = -exp(log_rate) softplus(a(x) + step_bias)
        out = proj(norm(gated_deltanet(q, k, v, beta, g)) * silu(gate(x)))

    It is ``build_layer("gated_deltanet", ...)``. The authors' models have
    values twice as wide as keys: that is ``value_dim`` of the geometry.

    Hazards:
        - Those of its core, `gated_deltanet`; keys are normalised here, so its state is bounded.

    Differences:
        - The authors' models have values twice as wide as keys; here they are as wide as the
          geometry says.

    Args:
        geometry: the shape to build for; causal.
        conv_size: tokens that the convolution sees; 0 leaves it out.
        output_gate: whether the norm's output is gated.
    """

    def __init__(self, geometry: Geometry, conv_size: int = 4, output_gate: bool = True) -> None:
        self._refuse_form(geometry)
        is_gated = flag(self.name, "output_gate", output_gate)
        settings = {"conv_size": conv_size, "output_gate": "silu" if is_gated else "none"}
        super().__init__(GatedDeltaNet(geometry), **{**PAPER_LAYERS["gated_deltanet"], **settings})


@register_attention(
    "mamba2_ssd_layer",
    title="Mamba-2 layer",
    source="Dao and Gu, 2024, arXiv:2405.21060",
    family="recurrent",
    capabilities=replace(RECURRENT_LAYER, compiles=False),
)
class Mamba2SsdLayer(MultiHeadAttention):
    """Mamba-2 with steps that the data choose, short convolution, skip, gate and norm.

        q, k, v = silu(convolution(qkv(x)))
        step = softplus(dt(x) + step_bias)           g = -exp(log_rate) step
        y = mamba2_ssd(q, k, step v, g) + skip v
        out = proj(norm(y * silu(gate(x))))

    q and k, the paper's C and B, are shared by the heads of a group. It is
    ``build_layer("mamba2_ssd", num_groups=1, ...)``. The authors' models have an inner width of 2 C
    and a state of 64 or 128: ``value_dim`` and ``head_dim`` of the geometry.

    Hazards:
        - Those of its core, `mamba2_ssd`. Its output is gated before it is normalised: that product
          overflows float32 for tokens of norm 1e9.

    Differences:
        - The authors' models have an inner width of 2 C and a state of 64 or 128; here both are as
          the geometry says.

    Args:
        geometry: the shape to build for; causal.
        num_groups: groups of heads; must divide num_heads. One in the paper's models.
        conv_size: tokens that the convolution sees; 0 leaves it out.
    """

    def __init__(self, geometry: Geometry, num_groups: int = 1, conv_size: int = 4) -> None:
        self._refuse_form(geometry)
        settings = {"num_groups": num_groups, "conv_size": conv_size}
        super().__init__(Mamba2Ssd(geometry), **{**PAPER_LAYERS["mamba2_ssd"], **settings})
