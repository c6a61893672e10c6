"""Goldens that our own mechanisms write, under the official names.

They prove nothing of the mathematics, but everything of what is read from a header.
"""

import torch
from torch import Tensor, nn

from attentions.testing.authors.files import DTYPES, Golden, Header
from attentions.testing.authors.map import form_of
from attentions.testing.authors.proof import ProofStatus, prove

torch.set_num_threads(1)  # the cases are so small that threads would only wait for each other


def seeded(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def qkv(batch, heads, queries, keys, head_dim, value_dim):
    return {
        "q": seeded(batch, heads, queries, head_dim, seed=1),
        "k": seeded(batch, heads, keys, head_dim, seed=2),
        "v": seeded(batch, heads, keys, value_dim, seed=3),
    }


def golden_of(official, module, inputs, weights, hyper, *, call=None, tags=(), stored=None):
    """The output and gradients of `module` for `inputs`, under official names."""
    leaves = {key: value.double().requires_grad_() for key, value in inputs.items()}
    out = (call or module.double())(**leaves)
    cot = seeded(*out.shape, seed=4)
    grads = torch.autograd.grad((out * cot.double()).sum(), list(leaves.values()))
    tensors = {f"in.{key}": value for key, value in inputs.items()} | (stored or {})
    tensors |= {f"w.{key}": value.detach() for key, value in weights.items()}
    tensors |= {"cot": cot, "out": out.detach()}
    tensors |= {f"grad.{key}": grad for key, grad in zip(leaves, grads, strict=True)}
    results = ["out", *(f"grad.{key}" for key in leaves)]
    bounds = {"float64": 1e-10, "float32": 1e-3}
    header = Header(
        mechanism=official,
        case="unseen",
        shapes={key: tuple(value.shape) for key, value in tensors.items()},
        dtypes={key: str(value.dtype).removeprefix("torch.") for key, value in tensors.items()},
        bounds={dtype: dict.fromkeys(results, bounds[dtype]) for dtype in DTYPES},
        hyper=hyper,
        tags=frozenset(tags),
    )
    return Golden(header=header, tensors=tensors)


@torch.no_grad()
def randomise(module: nn.Module) -> dict[str, Tensor]:
    """Give every parameter a value that no initialisation would; returns them by name."""
    named = sorted((key.removeprefix("core."), x) for key, x in module.named_parameters())
    for seed, (_, parameter) in enumerate(named):
        parameter.copy_(seeded(*parameter.shape, seed=100 + seed) / 2 + 0.1)
    return {key: value.float() for key, value in module.named_parameters()}


def assert_proven(golden, mechanism):
    proof = prove(golden, form_of(golden.header))
    assert (proof.status, proof.reason) == (ProofStatus.PASSED, None)
    assert proof.mechanism == mechanism
