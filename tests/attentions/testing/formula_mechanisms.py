"""Mechanisms with right and wrong formulas. Not registered, so that nobody else finds them."""

import torch
from torch.nn import functional

from attentions import Capabilities
from attentions.base import Attention, AttentionLayer


def claims(name, **capabilities):
    """Set the attributes that `register_attention` sets, without the registry."""

    def enter(cls):
        cls.name, cls.title, cls.source = name, name, "tests"
        cls.capabilities = Capabilities(**capabilities)
        return cls

    return enter


@claims("explicit", causal=True, cross=True)
class Explicit(Attention):
    """Softmax, all pairs of it computed."""

    def forward(self, q, k, v):
        scores = q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5
        if self.geometry.causal:
            scores = scores.masked_fill(torch.ones_like(scores).triu(1) > 0, -torch.inf)
        return scores.softmax(dim=-1) @ v

    def flops(self, shape):
        return 2 * shape.num_pairs * (shape.head_dim + shape.value_dim)

    def executed_flops(self, shape):
        return 2 * shape.num_tokens * shape.key_len * (shape.head_dim + shape.value_dim)


@claims("recurrence", bidirectional=False, causal=True, recurrent=True)
class Recurrence(Attention):
    """S += k v^T, out = S^T q; all pairs at once, or token by token."""

    def forward(self, q, k, v):
        return (q @ k.transpose(-2, -1)).tril() @ v

    def init_state(self, batch_size, *, dtype, device):
        g = self.geometry
        return torch.zeros(batch_size, g.num_heads, g.head_dim, g.value_dim, dtype=dtype)

    def step(self, q, k, v, state):
        outs = []
        for i in range(q.shape[-2]):
            here = slice(i, i + 1)
            state = state + k[:, :, here].transpose(-2, -1) @ v[:, :, here]
            outs.append(q[:, :, here] @ state)
        return torch.cat(outs, dim=-2), state

    def flops(self, shape):
        return 4 * shape.num_tokens * shape.head_dim * shape.value_dim

    def executed_flops(self, shape):
        return 2 * shape.num_tokens * shape.key_len * (shape.head_dim + shape.value_dim)


@claims("window", bidirectional=True)
class Window(Attention):
    """Softmax over the 100 keys around, by a mask."""

    reach = 50

    def forward(self, q, k, v):
        place = torch.arange(q.shape[-2], device=q.device)
        far = (place[:, None] - place).abs() > self.reach
        scores = q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5
        return scores.masked_fill(far, -torch.inf).softmax(dim=-1) @ v

    def pairs(self, length):
        return sum(
            min(i + self.reach, length - 1) - max(i - self.reach, 0) + 1 for i in range(length)
        )

    def flops(self, shape):
        pairs = shape.batch_size * shape.num_heads * self.pairs(shape.query_len)
        return 2 * pairs * (shape.head_dim + shape.value_dim)

    def executed_flops(self, shape):
        return 2 * shape.num_pairs * (shape.head_dim + shape.value_dim)


@claims("fused", causal=True)
class Fused(Explicit):
    """Torch's kernel, whose tiles nobody sees; it takes values as wide as queries."""

    def __init__(self, geometry):
        super().__init__(geometry)
        if geometry.value_dim != geometry.head_dim:
            raise ValueError("value_dim must be head_dim")

    def forward(self, q, k, v):
        return functional.scaled_dot_product_attention(q, k, v, is_causal=self.geometry.causal)

    def executed_flops(self, shape):
        waste = 2 * shape.num_tokens * shape.head_dim if shape.causal else 0
        return Explicit.flops(self, shape) + waste


@claims("fourier")
class Fourier(Attention):
    """Mixes by Fourier transforms, which no counter prices."""

    def forward(self, q, k, v):
        return torch.fft.irfft(torch.fft.rfft(v, dim=-2), n=v.shape[-2], dim=-2)

    def flops(self, shape):
        return 10 * shape.num_tokens * shape.value_dim * shape.query_len.bit_length()


@claims("elementwise")
class Elementwise(Attention):
    """No product anywhere, and a formula that says there is."""

    def forward(self, q, k, v):
        return v * torch.sigmoid(q[..., : v.shape[-1]])

    def flops(self, shape):
        return 2 * shape.num_tokens * shape.value_dim


@claims("projected", scopes=("layer",))
class Projected(AttentionLayer):
    """A layer that is one product."""

    def __init__(self, geometry):
        super().__init__(geometry)
        self.linear = torch.nn.Linear(geometry.embed_dim, geometry.embed_dim)

    def forward(self, x):
        return self.linear(x)

    def flops(self, shape):
        channels = shape.num_heads * shape.head_dim
        return 2 * shape.batch_size * shape.query_len * channels**2


def off_by(kind, factor, *methods):
    """The same mechanism with some of its formulas wrong by a factor."""

    def wrong(right):
        return lambda self, shape: int(right(self, shape) * factor)

    methods = {name: wrong(getattr(kind, name)) for name in methods}
    return type(f"{kind.__name__}OffBy", (kind,), methods)
