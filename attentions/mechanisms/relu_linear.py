"""ReLU linear attention, of EfficientViT and SANA."""

from __future__ import annotations

from torch import Tensor

from ..base import Geometry
from ..capabilities import Capabilities
from ..checks import positive
from ..engines.kernel import KernelCore
from ..registry import register_attention


@register_attention(
    "relu_linear",
    title="ReLU linear attention",
    source="Cai et al., 2022, EfficientViT, arXiv:2205.14756; Xie et al., 2024, SANA, "
    "arXiv:2410.10629",
    family="kernel",
    capabilities=Capabilities(
        causal=True,
        cross=True,
        recurrent=True,
        masks=frozenset({"padding"}),
        exports=frozenset({"bidirectional"}),
    ),
)
class ReluLinear(KernelCore):
    """out_i = sum_j relu(q_i) . relu(k_j) v_j / (sum_j relu(q_i) . relu(k_j) + eps).

    EfficientViT, Eq. 4. No 1/sqrt(D) anywhere. A query whose keys are all hidden gets zeros.

    Hazards:
        - A query without a positive channel, or with none in common with any key, gets zeros and
          sends no gradient.
        - ``eps`` is far below what float16 can hold, and sums of long sequences are above it: half
          inputs are computed in float32.
        - Gradients grow as 1 over the norm of queries and keys.

    Differences:
        - EfficientViT's code computes all weights where there are fewer tokens than channels: the
          same function.
        - EfficientViT's convolutions around it, at several scales, and SANA's optional norms and
          rotation of q and k before the ReLU belong to their layers.
        - Neither has a causal form; the one here sums over keys 0..i.

    Args:
        geometry: the shape to build for.
        eps: added to the sum of weights.
    """

    def __init__(self, geometry: Geometry, eps: float = 1e-15) -> None:
        super().__init__(geometry)
        self.eps = positive(self.name, "eps", eps)

    def phi_q(self, q: Tensor) -> Tensor:
        """relu(q), and the same for keys."""
        return q.relu()

    def reference(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """The N x M similarities written out."""
        similarity = q.clamp(min=0) @ k.clamp(min=0).mT
        if self.geometry.causal:
            similarity = similarity.tril()
        return similarity @ v / (similarity.sum(dim=-1, keepdim=True) + self.eps)
