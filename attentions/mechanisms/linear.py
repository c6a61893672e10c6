"""Linear attention with elu + 1 features, and its two causal forms."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from ..base import Geometry
from ..capabilities import Capabilities
from ..checks import positive
from ..engines.kernel import KernelCore
from ..maths.feature_maps import elu_plus_one
from ..registry import register_attention


@register_attention(
    "linear",
    title="Linear attention (elu + 1)",
    source="Katharopoulos et al., 2020, arXiv:2006.16236",
    family="kernel",
    capabilities=Capabilities(
        causal=True,
        cross=True,
        recurrent=True,
        masks=frozenset({"padding"}),
        exports=frozenset({"bidirectional"}),
    ),
)
class Linear(KernelCore):
    """phi(q) (phi(k)^T v) / (phi(q) . sum phi(k) + eps) with phi(x) = elu(x) + 1.

    No 1/sqrt(D) anywhere. A query whose keys are all hidden gets zeros.

    Hazards:
        - With features far below ``eps`` (entries under about -14 throughout) the output shrinks
          towards zero.
        - The sum of weights grows with the length and leaves float16's range at a few hundred
          tokens, so sums are float32.

    Differences:
        - The authors' causal product is compiled C++, its equal here are chunks and a recurrence.
        - There is no 1/sqrt(D) in paper or code.

    Args:
        geometry: the shape to build for.
        eps: added to the sum of weights.
    """

    def __init__(self, geometry: Geometry, eps: float = 1e-6) -> None:
        super().__init__(geometry)
        self.eps = positive(self.name, "eps", eps)

    def phi_q(self, q: Tensor) -> Tensor:
        """elu(q) + 1, Eq. 7, and the same for keys."""
        # Tiles run the faster form in kernel/derivatives.py; change both.
        return elu_plus_one(q)

    def reference(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Eq. 4 with the N x M similarities written out."""
        similarity = (functional.elu(q) + 1) @ (functional.elu(k) + 1).transpose(-2, -1)
        if self.geometry.causal:
            similarity = similarity.tril()
        return similarity @ v / (similarity.sum(dim=-1, keepdim=True) + self.eps)
