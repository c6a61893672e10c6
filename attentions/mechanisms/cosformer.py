"""cosFormer: ReLU features whose products fade with distance, by a cosine."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from .. import kernel
from ..base import Attention, CallShape, Geometry
from ..capabilities import Capabilities
from ..checks import positive, whole
from ..maths.causal_sums import causal_sums, with_ones
from ..maths.kernel_attention import kernel_flops
from ..precision import wide_dtype, widen, without_autocast
from ..registry import register_attention


class CosformerState(NamedTuple):
    """All that the past leaves behind.

    Attributes:
        context: sum of phi(k_j) [v_j, 1]^T, (B, H, 2 D, E + 1).
        position: number of tokens so far.
    """

    context: Tensor
    position: int


@register_attention(
    "cosformer",
    title="cosFormer",
    source="Qin et al., 2022, arXiv:2202.08791",
    family="kernel",
    capabilities=Capabilities(
        causal=True,
        cross=True,
        recurrent=True,
        position_free=False,
        exports=frozenset({"bidirectional"}),
    ),
)
class Cosformer(Attention):
    """Linear attention with relu features and a cosine of the distance.

        w_ij  = relu(q_i) . relu(k_j) cos(pi / 2 (i - j) / m)
        out_i = sum_j w_ij v_j / max(sum_j w_ij, eps)

    with positions from 1. Ptolemy's theorem splits the cosine over two halves of 2 D features. m
    must be at least the largest position, so that no weight is negative.

    Hazards:
        - A query of weights below ``eps`` in sum, such as a negative one, shrinks towards zero: of
          zeros it gets zeros.

    Differences:
        - The paper divides by the sum of weights; the authors' code, and ours, by at least ``eps``.
        - The authors' code keeps its table of positions in float32; here it has the precision of
          the inputs.
        - The authors' other activation, elu, is broken in their code and not offered here.
        - The authors' m is the longer of queries and keys of a call; causal, ours is
          geometry.seq_len, so that ``step`` gives the same.

    Args:
        geometry: the shape to build for.
        eps: the least sum of weights, as in the authors' code; the paper divides by the sum.
        horizon: m. None takes the longer of queries and keys of the call, as the authors' code
            does; causal, where a step cannot know what is still to come, geometry.seq_len.
    """

    def __init__(
        self,
        geometry: Geometry,
        eps: float = 1e-6,
        horizon: int | None = None,
    ) -> None:
        super().__init__(geometry)
        self.eps = positive(self.name, "eps", eps)
        if horizon is not None:
            whole(self.name, "horizon", horizon, geometry.seq_len)
        elif geometry.causal:
            horizon = geometry.seq_len
        self.horizon = horizon

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """(B, H, N, D), (B, H, M, D), (B, H, M, E) -> (B, H, N, E)."""
        longest = max(q.shape[-2], k.shape[-2])
        places = _tables(longest, self._horizon(longest), wide_dtype(q.dtype), q.device)
        features = kernel.FeatureMap(_placed, by_hand=_placed_by_hand, places=places)
        return kernel.attend(
            q,
            k,
            v,
            queries=features,
            keys=features,
            least=self.eps,
            causal=self.geometry.causal,
        )

    def _horizon(self, last: int) -> int:
        if self.horizon is None:
            return last
        if last > self.horizon:
            raise ValueError(
                f"{self.name}: position {last} was reached; with a horizon of {self.horizon} the "
                f"last one is {self.horizon}. Build it with a larger seq_len or horizon."
            )
        return self.horizon

    @staticmethod
    def _features(x: Tensor, position: int, m: int) -> Tensor:
        """[relu(x) cos; relu(x) sin] after ``position``: (B, H, N, D) -> (B, H, N, 2 D)."""
        return torch.cat(_placed(x, *_turns(position, x.shape[-2], m, x.dtype, x.device)), dim=-1)

    def init_state(
        self, batch_size: int, *, dtype: torch.dtype, device: torch.device
    ) -> CosformerState:
        """Zeros; float32 for half inputs."""
        g = self.geometry
        sizes = (batch_size, g.num_heads, 2 * g.head_dim, g.value_dim + 1)
        context = torch.zeros(sizes, dtype=wide_dtype(dtype), device=device)
        return CosformerState(context=context, position=0)

    def step(
        self, q: Tensor, k: Tensor, v: Tensor, state: CosformerState
    ) -> tuple[Tensor, CosformerState]:
        """The next T tokens: (B, H, T, D), (B, H, T, D), (B, H, T, E), state.

        Raises:
            ValueError: past the horizon.
        """
        with without_autocast(q.device.type):
            out, state = self._continue(widen(q), widen(k), widen(v), state)
        return out.to(q.dtype), state

    def _continue(
        self, q: Tensor, k: Tensor, v: Tensor, state: CosformerState | None
    ) -> tuple[Tensor, CosformerState]:
        start = 0 if state is None else state.position
        end = start + q.shape[-2]
        m = self._horizon(end)
        phi_q, phi_k = self._features(q, start, m), self._features(k, start, m)
        context = None if state is None else state.context
        sums, context = causal_sums(phi_q, phi_k, with_ones(v), context)
        out = sums[..., :-1] / sums[..., -1:].clamp(min=self.eps)
        return out, CosformerState(context=context, position=end)

    def reference(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """The N x M weights written out, with distances and their cosines."""
        num_queries, num_keys = q.shape[-2], k.shape[-2]
        i, j = (torch.arange(n, device=q.device) for n in (num_queries, num_keys))
        m = self.horizon or max(num_queries, num_keys)
        fade = torch.cos(math.pi * (i[:, None] - j).to(q) / (2 * m))
        weights = q.clamp(min=0) @ k.clamp(min=0).transpose(-2, -1) * fade
        if self.geometry.causal:
            weights = weights.tril()
        return weights @ v / weights.sum(dim=-1, keepdim=True).clamp(min=self.eps)

    def flops(self, shape: CallShape) -> int:
        """Kernel attention with 2 D features."""
        return kernel_flops(shape, 2 * shape.head_dim)

    def executed_flops(self, shape: CallShape) -> int:
        """The causal form also writes out the pairs within a chunk."""
        count = kernel.causal_flops if shape.causal else kernel_flops
        return count(shape, 2 * shape.head_dim)


def _placed(x: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor]:
    """[relu(x) cos; relu(x) sin] in two parts."""
    above = x.relu()
    return above * cos, above * sin


def _placed_by_hand(
    x: Tensor, cos: Tensor, sin: Tensor
) -> tuple[tuple[Tensor, Tensor], Callable[[Tensor, Tensor], Tensor]]:
    above = x.relu()

    def pull(d_cos: Tensor, d_sin: Tensor) -> Tensor:
        return d_cos.mul_(cos).addcmul_(d_sin, sin).mul_(above.sign_())

    return (above * cos, above * sin), pull


def _turns(
    position: int, length: int, m: int, dtype: torch.dtype, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Cosine and sine of the next ``length`` tokens' angles, (N, 1) each.

    Angles are taken in float64, as their rounding grows with the position.
    """
    place = torch.arange(position + 1, position + length + 1, dtype=torch.float64, device=device)
    angle = place[:, None] * (math.pi / 2 / m)
    return angle.cos().to(dtype), angle.sin().to(dtype)


def _tables(length: int, m: int, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor]:
    """Cosine and sine of the angles from the first token on, (N, 1) each."""
    # What a compiler traces must not be kept for later calls.
    make = _turns if torch.compiler.is_compiling() else _kept_turns
    return make(0, length, m, dtype, device)


@functools.lru_cache(maxsize=8)
def _kept_turns(
    position: int, length: int, m: int, dtype: torch.dtype, device: torch.device
) -> tuple[Tensor, Tensor]:
    # A table first made under inference mode would be of no use to a later backward pass.
    with torch.inference_mode(False):
        return _turns(position, length, m, dtype, device)
