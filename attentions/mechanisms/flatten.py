"""FLatten: focused linear attention."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..base import Geometry
from ..capabilities import Capabilities
from ..checks import at_least, one_of, positive
from ..engines.kernel import KernelCore
from ..maths.feature_maps import square, unit_of
from ..maths.heads import merge_heads, split_heads
from ..precision import widen
from ..registry import register_attention


@register_attention(
    "flatten",
    title="FLatten (focused linear attention)",
    source="Han et al., 2023, arXiv:2308.00442",
    family="kernel",
    capabilities=Capabilities(
        cross=True,
        masks=frozenset({"padding"}),
        heads_independent=False,
        exports=frozenset({"bidirectional"}),
    ),
)
class Flatten(KernelCore):
    """Linear attention whose features point more sharply: f_p(x) = ||x|| x^p / ||x^p||.

        phi(x) = f_p((relu(x) + eps) / softplus(scale))
        out_i = mean_j phi(q_i) . phi(k_j) v_j / (mean_j phi(q_i) . phi(k_j) + eps)

    ``scale``, one value per channel, is learned. It and the eps inside phi are the authors' code's;
    the paper has f_p(relu(x)). A query whose keys are all hidden gets zeros.

    Hazards:
        - A zero or negative row is a row of eps and stays finite; where all queries or all keys are
          so, the eps in the denominator takes the output towards zero.
        - With ``norm_over="all_heads"`` what a head attends to depends on the sizes of the other
          heads' channels.
        - Powers of small entries vanish in half precision, so features are formed in float32.

    Differences:
        - The paper's norms run over the channels of a head, those of the authors' code over the
          channels of all heads: ``norm_over``, the code's by default.
        - The authors' code divides by a learned softplus(scale) and floors entries by eps; neither
          is in the paper. Both are here.

    Args:
        geometry: the shape to build for.
        focusing_factor: p.
        norm_over: what ||.|| runs over: ``"all_heads"``, all H * D channels of a token, as in the
            authors' code, where one head's features depend on the others' magnitudes; or
            ``"head"``, the D channels of one head, as the paper reads.
        eps: the floor of phi's input, and added to the mean weight.
    """

    eps_on_mean = True

    def __init__(
        self,
        geometry: Geometry,
        focusing_factor: float = 3,
        norm_over: str = "all_heads",
        eps: float = 1e-6,
    ) -> None:
        super().__init__(geometry)
        # As a float: torch takes no whole number beyond 2^63.
        self.factor = at_least(self.name, "focusing_factor", focusing_factor, 1)
        self.norm_over = one_of(self.name, "norm_over", norm_over, ("all_heads", "head"))
        self.joint_heads = norm_over == "all_heads"
        self.eps = positive(self.name, "eps", eps)
        self.scale = nn.Parameter(torch.zeros(geometry.embed_dim))

    def weights(self, dtype: torch.dtype) -> tuple[Tensor]:
        """1 / softplus(scale), (H, 1, D)."""
        scale = functional.softplus(widen(self.scale).to(dtype))
        return (scale.reciprocal().view(self.geometry.num_heads, 1, -1),)

    def phi_q(self, q: Tensor, inverse: Tensor) -> Tensor:
        """f_p((relu(q) + eps) / softplus(scale)), and the same for keys."""
        # Tiles run the faster form in kernel/derivatives.py; change both.
        scaled = (q.relu() + self.eps) * inverse
        unit = unit_of(scaled, self.factor, joint=self.joint_heads)  # cancels
        u = scaled / unit
        powers = u.pow(self.factor)
        length, powers_length = (square(x, joint=self.joint_heads).sqrt() for x in (u, powers))
        return powers * (unit * length / powers_length)

    def reference(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """The N x M weights written out, with the features of all heads side by side."""
        phi_q, phi_k = (self._reference_features(x, self.scale.to(q.dtype)) for x in (q, k))
        share = phi_q @ phi_k.transpose(-2, -1) / k.shape[-2]
        return share @ v / (share.sum(dim=-1, keepdim=True) + self.eps)

    def _reference_features(self, x: Tensor, scale: Tensor) -> Tensor:
        num_heads = x.shape[1]
        tokens = (merge_heads(x).clamp(min=0) + self.eps) / (1 + scale.exp()).log()  # (B, N, C)
        if self.norm_over == "head":
            tokens = torch.unflatten(tokens, -1, (num_heads, -1))
        sharp = tokens**self.factor
        length, sharp_length = (t.pow(2).sum(-1, keepdim=True).sqrt() for t in (tokens, sharp))
        phi = sharp / sharp_length * length
        return split_heads(phi.reshape(*merge_heads(x).shape), num_heads)
