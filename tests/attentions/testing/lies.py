"""Mechanisms that keep all that they claim but for one thing, and the check that says which.

A lie shows in one place only: a border of chunks, a narrow dtype, a gradient, a second call.
"""

import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

import attentions

Change = Callable[[Tensor], Tensor]


class Call(NamedTuple):
    """A call of a mechanism, and its right output."""

    module: Any
    out: Tensor
    q: Tensor
    k: Tensor
    v: Tensor
    masks: dict[str, Any]

    @property
    def is_causal(self) -> bool:
        return self.module.geometry.causal

    @property
    def hidden(self) -> Tensor:
        """True for the keys that are hidden, (B, 1, M, 1); without a mask none is."""
        mask = self.masks.get("key_mask", torch.ones(self.k.shape[0], self.k.shape[2]).bool())
        return ~mask[:, None, :, None]


Spoil = Callable[[Call], Tensor]


def spoilt(sound: str, spoil: Spoil) -> Callable[..., Tensor]:
    """`forward` of a mechanism whose output is spoilt."""
    base: Any = attentions.attention_class(sound)

    def forward(self: Any, q: Tensor, k: Tensor, v: Tensor, **masks: Any) -> Tensor:
        return spoil(Call(self, base.forward(self, q, k, v, **masks), q, k, v, masks))

    forward.__signature__ = inspect.signature(base.forward)
    return forward


def spoilt_steps(spoil: Callable[..., Tensor]) -> dict[str, Any]:
    """Members of a child of linear_unnormalised whose step is spoilt.

    Args:
        spoil: (number of tokens before, output, keys, geometry) -> another output.
    """
    base: Any = attentions.attention_class("linear_unnormalised")

    def init_state(self: Any, batch_size: int, **kinds: Any) -> Any:
        return 0, base.init_state(self, batch_size, **kinds)

    def step(self: Any, q: Tensor, k: Tensor, v: Tensor, state: Any) -> Any:
        place, sums = state
        out, sums = base.step(self, q, k, v, sums)
        return spoil(place, out, k, self.geometry), (place + q.shape[-2], sums)

    return {"init_state": init_state, "step": step}


class Sends(torch.autograd.Function):
    """The output as it is; the backward pass changes its gradient, and sends one to an input."""

    @staticmethod
    def forward(ctx: Any, out: Tensor, x: Tensor, change: Change, sent: Change) -> Tensor:
        ctx.change, ctx.sent = change, sent
        return out.view_as(out)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None, None]:
        sent = ctx.sent(gradient)
        return ctx.change(gradient), sent, None, None


def sends(out: Tensor, x: Tensor, sent: Change) -> Tensor:
    return Sends.apply(out, x, lambda gradient: gradient, sent)


def changes(out: Tensor, x: Tensor, change: Change) -> Tensor:
    return Sends.apply(out, x, change, lambda _: torch.zeros_like(x))


def only_at(i: int, x: Tensor, dim: int) -> Tensor:
    """1 at an index of a dimension and 0 elsewhere."""
    sizes = [1] * x.dim()
    sizes[dim] = x.shape[dim]
    return (torch.arange(x.shape[dim]) == i).to(x.dtype).view(sizes)


# Three ways to lie, in the calls of which something holds.

Where = Callable[[Call], Any]


def always(_: Call) -> bool:
    return True


def at(length: int) -> Where:
    """Calls with so many keys."""
    return lambda c: c.k.shape[-2] == length


def within(*dtypes: torch.dtype) -> Where:
    return lambda c: c.out.dtype in dtypes


def ones(c: Call, _: Tensor) -> Tensor:
    return torch.ones_like(c.k)


def lost(_: Call, gradient: Tensor) -> Tensor:
    return gradient * torch.nan


def off(where: Where, factor: float = 1.001) -> Spoil:
    """An output that is off by a factor."""
    return lambda c: c.out * factor if where(c) else c.out


def given(x: str, sent: Callable[[Call, Tensor], Tensor], where: Where = always) -> Spoil:
    """An input that gets a gradient as well: (call, gradient of the output) -> gradient."""
    return lambda c: sends(c.out, getattr(c, x), lambda g: sent(c, g)) if where(c) else c.out


def turned(change: Change, where: Where = always) -> Spoil:
    """An output whose gradient is changed on its way back."""
    return lambda c: changes(c.out, c.q, change) if where(c) else c.out


def leaks(i: int, length: int) -> Spoil:
    """A token that sees a trace of the next one, in a sequence of such a length."""

    def spoil(c: Call) -> Tensor:
        if not c.is_causal or c.v.shape[-2] != length:
            return c.out
        return c.out + 1e-6 * only_at(i, c.out, -2) * c.v[..., i + 1 : i + 2, :]

    return spoil
