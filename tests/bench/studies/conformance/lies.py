"""Outputs that are spoilt in one place only: (mechanism, output, q, k, v, masks) -> another one."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

import attentions

Change = Callable[[Tensor], Tensor]


def spoilt(sound: str, spoil: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """`forward` of a mechanism whose output is spoilt."""
    base: Any = attentions.attention_class(sound)

    def forward(self: Any, q: Tensor, k: Tensor, v: Tensor, **masks: Any) -> Tensor:
        return spoil(self, base.forward(self, q, k, v, **masks), q, k, v, masks)

    forward.__signature__ = inspect.signature(base.forward)  # type: ignore[attr-defined]
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


def same(x: Tensor) -> Tensor:
    return x


def sends(out: Tensor, x: Tensor, sent: Change) -> Tensor:
    return Sends.apply(out, x, same, sent)  # type: ignore[no-any-return]


def changes(out: Tensor, x: Tensor, change: Change) -> Tensor:
    return Sends.apply(out, x, change, lambda _: torch.zeros_like(x))  # type: ignore[no-any-return]


def only_at(i: int, x: Tensor, dim: int) -> Tensor:
    sizes = [1] * x.dim()
    sizes[dim] = x.shape[dim]
    return (torch.arange(x.shape[dim]) == i).to(x.dtype).view(sizes)


def other_strides_are_wrong_in_bfloat16(_, out, q, k, v, masks):
    return out * 1.05 if out.dtype == torch.bfloat16 and not q.is_contiguous() else out


def backward_writes_into_the_keys(_, out, q, k, v, masks):
    def write(gradient):
        with torch.no_grad():
            k.mul_(1.000001)
        return gradient

    return changes(out, q, write)


def every_call_gives_the_same_buffer(self, out, q, k, v, masks):
    if torch.is_grad_enabled() and out.requires_grad:
        return out
    kept = self.__dict__.setdefault("kept", torch.empty_like(out))
    return kept.copy_(out) if kept.shape == out.shape and kept.dtype == out.dtype else out


def wide_heads_are_wrong(_, out, q, k, v, masks):
    return out * 1.001 if q.shape[-1] > 64 else out


def fewer_tokens_are_wrong(self, out, q, k, v, masks):
    is_less = k.shape[-2] == q.shape[-2] < self.geometry.seq_len
    return out * 1.001 if is_less and not masks else out


def the_last_row_sees_the_first(_, out, q, k, v, masks):
    return out + 1e-3 * only_at(len(out) - 1, out, 0) * out[:1]


def rows_share_gradients(_, out, q, k, v, masks):
    return sends(out, v, lambda g: 1e-3 * g.mean(0, keepdim=True).expand_as(g).contiguous())


def the_first_head_sees_the_last(_, out, q, k, v, masks):
    return out + 1e-3 * only_at(0, out, 1) * out[:, -1:]


def causal_heads_are_mixed(self, out, q, k, v, masks):
    return out + 1e-3 * out.mean(1, keepdim=True) if self.geometry.causal else out


def one_token_sees_the_next_chunk(self, out, q, k, v, masks):
    if not self.geometry.causal or v.shape[-2] <= 64:
        return out
    return out + 1e-6 * only_at(63, out, -2) * v[..., 64:65, :]


def the_next_chunk_gets_a_gradient(self, out, q, k, v, masks):
    if not self.geometry.causal or v.shape[-2] <= 64:
        return out
    return sends(out, v, lambda g: 1e-6 * only_at(64, g, -2) * g[..., 63:64, :])


def one_query_and_many_keys_are_wrong(_, out, q, k, v, masks):
    return out * 1.01 if q.shape[-2] == 1 < k.shape[-2] and not masks else out


def cross_gradients_are_wrong(_, out, q, k, v, masks):
    return sends(out, k, lambda _: 1e-3 * k.detach()) if q.shape[-2] != k.shape[-2] else out


def a_hidden_first_key_is_half_seen(_, out, q, k, v, masks):
    mask = masks.get("key_mask")
    return out if mask is None else torch.where(mask[:, :1, None, None], out, out * 1.01)


def hidden_values_get_a_gradient(_, out, q, k, v, masks):
    mask = masks.get("key_mask")
    return out if mask is None else sends(out, v, lambda _: ~mask[:, None, :, None] * v.detach())


def the_mask_is_written_into(_, out, q, k, v, masks):
    if "key_mask" in masks:
        masks["key_mask"][:, 0] = True
    return out


def another_gradient_in_float32(_, out, q, k, v, masks):
    return sends(out, k, lambda _: 0.01 * torch.ones_like(k)) if k.dtype == torch.float32 else out


def another_gradient_of_long_keys(_, out, q, k, v, masks):
    return sends(out, k, lambda _: 0.01 * torch.ones_like(k)) if k.shape[-2] > 128 else out


def a_gradient_is_wrong_if_its_cotangent_has_strides(_, out, q, k, v, masks):
    return changes(out, q, lambda g: g if g.is_contiguous() else 1.1 * g)


def a_gradient_of_keys_alone_is_wrong(_, out, q, k, v, masks):
    is_alone = k.requires_grad and not q.requires_grad
    return changes(out, k, lambda g: 1.1 * g) if is_alone else out


def long_float32_is_wrong(_, out, q, k, v, masks):
    return out * 1.001 if out.dtype == torch.float32 and k.shape[-2] > 64 else out


def a_call_seeds_again(_, out, q, k, v, masks):
    torch.manual_seed(0)
    return out


def autocast_gives_no_gradient(_, out, q, k, v, masks):
    return changes(out, q, lambda g: 0 * g) if torch.is_autocast_enabled("cpu") else out


def autocast_refuses_what_is_half_already(_, out, q, k, v, masks):
    if torch.is_autocast_enabled("cpu") and q.dtype == torch.bfloat16:
        raise RuntimeError("expected scalar type Float but found BFloat16")
    return out


SPOILT = [
    ("shape", other_strides_are_wrong_in_bfloat16),
    ("shape", backward_writes_into_the_keys),
    ("shape", every_call_gives_the_same_buffer),
    ("any_shape", wide_heads_are_wrong),
    ("any_shape", fewer_tokens_are_wrong),
    ("batch", the_last_row_sees_the_first),
    ("batch", rows_share_gradients),
    ("heads", the_first_head_sees_the_last),
    ("heads", causal_heads_are_mixed),
    ("causal", one_token_sees_the_next_chunk),
    ("causal", the_next_chunk_gets_a_gradient),
    ("cross", one_query_and_many_keys_are_wrong),
    ("cross", cross_gradients_are_wrong),
    ("padding", a_hidden_first_key_is_half_seen),
    ("padding", hidden_values_get_a_gradient),
    ("padding", the_mask_is_written_into),
    ("precision", another_gradient_in_float32),
    ("precision", long_float32_is_wrong),
    ("gradients", another_gradient_of_long_keys),
    ("gradients", a_gradient_is_wrong_if_its_cotangent_has_strides),
    ("gradients", a_gradient_of_keys_alone_is_wrong),
    ("deterministic", a_call_seeds_again),
    ("autocast", autocast_gives_no_gradient),
    ("autocast", autocast_refuses_what_is_half_already),
]
