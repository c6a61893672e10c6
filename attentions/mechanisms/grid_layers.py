"""Layers of NaLaFormer and RALA: one layer around three cores."""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor

from ..base import Geometry
from ..capabilities import GRID_LAYER
from ..engines.grid_layer import GridLayer
from ..maths.rotary import reference_rotate, rope_if_it_fits, rotate
from ..precision import in_wide_precision
from ..registry import register_attention
from .nala import Nala
from .rala import Rala
from .softmax import Softmax, explicit_softmax


@register_attention(
    "nala_layer",
    title="NaLa layer",
    source="Meng et al., 2026, NaLaFormer, arXiv:2506.21137",
    family="kernel",
    capabilities=replace(GRID_LAYER, masks=frozenset({"padding"})),
)
class NalaLayer(GridLayer):
    """NaLa with its projections, local position encoding, norm and gate.

        q, k, v, g = qkvg(x)
        out = proj(norm(nala(q, k, v) + lepe(v)) * silu(g))

    Hazards:
        - Those of its core, `nala`; the norm behind it hides that weights do not sum to 1.

    Differences:
        - The released backbones have this layer in stages 1 and 2 only, and `nala_vanilla` in
          stages 3 and 4: their accuracies are not those of this mechanism alone.
        - The authors' code has a local position encoding that the paper's first version does not
          name.

    Args:
        geometry: the shape to build for; value_dim must be head_dim.
        rope: as for `Nala`, but on unless said otherwise.
        lam: as for `Nala`.
        tau: as for `Nala`.
        key_power: as for `Nala`.
        eps: as for `Nala`.
    """

    def __init__(
        self,
        geometry: Geometry,
        rope: bool = True,
        lam: float = 3.0,
        tau: float = 0.5,
        key_power: float = 3.0,
        eps: float = 1e-6,
    ) -> None:
        self._refuse_form(geometry)
        super().__init__(Nala(geometry, rope, lam, tau, key_power, eps))


@register_attention(
    "nala_vanilla",
    title="NaLaFormer's softmax layer",
    source="Meng et al., 2026, NaLaFormer, arXiv:2506.21137",
    family="exact",
    capabilities=replace(GRID_LAYER, masks=frozenset({"padding"})),
)
class NalaVanilla(GridLayer):
    """Attention of stages 3 and 4 of the released backbones, in the place of `nala_layer`.

        q, k, v, g = qkvg(x)
        out = proj(norm(softmax(R q (R k)^T / sqrt(D)) v + lepe(v)) * silu(g))

    R turns pairs of channels by the token's row and column, in queries and keys alike.

    Hazards:
        - Those of softmax attention: time grows with N x M.

    Differences:
        - The paper's tables call the whole backbone NaLaFormer; stages 3 and 4 of the released one
          are this layer.

    Args:
        geometry: the shape to build for; value_dim must be head_dim.
        rope: whether to turn; head_dim must then be a multiple of 4.
    """

    def __init__(self, geometry: Geometry, rope: bool = True) -> None:
        self._refuse_form(geometry)
        super().__init__(Softmax(geometry))
        self.rope = rope_if_it_fits(self.name, rope, geometry.head_dim)

    @in_wide_precision
    def mix(self, q: Tensor, k: Tensor, v: Tensor, **others: Tensor) -> Tensor:
        """Softmax attention of turned queries and keys."""
        if self.rope:
            q, k = (rotate(part, self.geometry.grid, part.shape[-1]) for part in (q, k))
        return super().mix(q, k, v, **others)

    def reference_mix(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """With rotation and weights written out."""
        if self.rope:
            q, k = (reference_rotate(part, self.geometry.grid, part.shape[-1]) for part in (q, k))
        return explicit_softmax(q, k, v, causal=False)


@register_attention(
    "rala_layer",
    title="RALA layer",
    source="Fan et al., 2024, arXiv:2411.07635",
    family="kernel",
    capabilities=GRID_LAYER,
)
class RalaLayer(GridLayer):
    """RALA with its projections, local position encoding and output gate.

        q, k, v, o = qkvg(x)
        out = proj((rala(q, k, v) + lepe(v)) * o)

    Hazards:
        - Those of its core, `rala`.

    Differences:
        - The paper writes phi(x) for the gate, the authors' code has a projection without an
          activation, and so has this.
        - The authors' backbones have this layer in stages 1 and 2 and softmax in 3 and 4: their
          accuracies are not those of this mechanism alone.

    Args:
        geometry: the shape to build for; value_dim must be head_dim, a multiple of 4 with ``rope``.
        rope: as for `Rala`.
        eps: as for `Rala`.
    """

    def __init__(self, geometry: Geometry, rope: bool = True, eps: float = 1e-6) -> None:
        self._refuse_form(geometry)
        super().__init__(Rala(geometry, rope, eps), is_normed=False)
