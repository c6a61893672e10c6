"""Inputs of a core, and gradients for them."""

import torch

H, D, E = 2, 8, 6


def tensors(*lengths, batch_size=2, num_heads=H, value_dim=E, dtype=torch.float64):
    sizes = zip(lengths, (D, D, value_dim), strict=True)
    return [
        torch.randn(batch_size, num_heads, n, d, dtype=dtype).requires_grad_() for n, d in sizes
    ]


def gradients(out, core, inputs, cotangent):
    wanted = [*inputs, *core.parameters()]
    return torch.autograd.grad(out, wanted, cotangent.to(out.dtype), allow_unused=True)
