"""Small mechanisms, shapes of calls with as many keys as queries, and calls in steps."""

import math
from dataclasses import fields
from typing import Any

import torch

from attentions import CallShape, Geometry, build_attention


def call_of(length: int, head_dim: int = 4, value_dim: int | None = None, **rest: int) -> CallShape:
    """A call of one sequence and two heads, unless told otherwise; values as wide as keys."""
    sizes = {"batch_size": 1, "num_heads": 2, "value_dim": value_dim or head_dim} | rest
    return CallShape(query_len=length, key_len=length, head_dim=head_dim, **sizes)


def in_steps(core: Any, tensors: Any, lengths: Any, gates: Any = None) -> tuple[torch.Tensor, Any]:
    """Outputs of steps that take so many tokens each, and the state after them."""
    first, gates = tensors[0], gates or {}
    state = core.init_state(len(first), dtype=first.dtype, device=first.device)
    outputs = []
    parts = (x.split(lengths, -2) for x in tensors), (x.split(lengths, 2) for x in gates.values())
    for part in zip(*parts[0], *parts[1], strict=True):
        some = dict(zip(gates, part[len(tensors) :], strict=True))
        out, state = core.step(*part[: len(tensors)], state, **some)
        outputs.append(out)
    return torch.cat(outputs, -2), state


SIZES = {field.name for field in fields(Geometry)}


def built(name: str, causal: bool = False, *, stir: float = 0.0, **given: Any) -> Any:
    """A mechanism in float64, with two heads of four channels unless told otherwise.

    Args:
        name: as it is registered.
        causal: whether a query sees no later key.
        stir: how far each parameter is moved from where it starts, the same way every time.
        given: sizes of its geometry, and settings; a grid says the length.
    """
    sizes = {"num_heads": 2, "head_dim": 4} | {at: given.pop(at) for at in SIZES & given.keys()}
    if "grid" in sizes:
        sizes["seq_len"] = math.prod(sizes["grid"])
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(1)  # other draws than the inputs of a test
        mechanism = build_attention(name, Geometry(causal=causal, **sizes), **given).double()
        for parameter in mechanism.parameters():
            parameter.add_(stir * torch.randn_like(parameter))
    return mechanism
