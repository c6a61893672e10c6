"""Derivatives by hand of the feature maps for which autograd takes 1.3 times as long or more.

A feature map is named by where it is written, so a subclass that overrides it has no derivative
here, and autograd finds one. A derivative takes the core and the map's arguments. It returns the
same features in a faster form, which tiles use, and a pullback: gradients of the parts, which it
may overwrite -> gradients of x and of each weight.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor

from ..maths.feature_maps import (
    exp_,
    log2_size,
    norm_and_inverse,
    power_slope,
    split_signs,
    square,
    unit_of,
)

Parts: TypeAlias = tuple[Tensor, ...]
Pullback: TypeAlias = Callable[..., Sequence[Tensor | None]]
ByHand: TypeAlias = Callable[..., tuple[Parts, Pullback]]

DERIVATIVES: dict[str, ByHand] = {}
"""``package.mechanisms.module.Class.method`` -> derivative."""


def derivative_of(phi: Callable[..., Any]) -> ByHand | None:
    """The derivative by hand of a bound feature map; None where autograd is to find it."""
    function = getattr(phi, "__func__", None)
    if function is None:
        return None
    found = DERIVATIVES.get(f"{function.__module__}.{function.__qualname__}")
    return None if found is None else functools.partial(found, phi.__self__)  # type: ignore[attr-defined]


def as_parts(found: Parts | Tensor) -> Parts:
    """A single part as a tuple of one."""
    return found if isinstance(found, tuple) else (found,)


def features(phi: Callable[..., Any], x: Tensor, *inputs: Tensor) -> Parts:
    """The features of a map, in their faster form if it has one, which has no derivative."""
    by_hand = derivative_of(phi)
    return as_parts(phi(x, *inputs)) if by_hand is None else by_hand(x, *inputs)[0]


def linearised(phi: Callable[..., Any], x: Tensor, *inputs: Tensor) -> tuple[Parts, Pullback]:
    """Features and their pullback: gradients of the parts -> those of x and of each input.

    The pullback may overwrite what it is given. An input that takes no gradient has None.
    """
    by_hand = derivative_of(phi)
    if by_hand is not None:
        return by_hand(x, *inputs)
    with torch.enable_grad():
        leaves = [x.detach().requires_grad_()]
        leaves += [each.detach().requires_grad_(each.requires_grad) for each in inputs]
        parts = as_parts(phi(*leaves))
    wanted = [leaf for leaf in leaves if leaf.requires_grad]

    def pull(*grads: Tensor) -> Sequence[Tensor | None]:
        each = [both for both in zip(parts, grads, strict=False) if both[0].requires_grad]
        outputs, grads = zip(*each, strict=True) if each else ((), ())  # a part may be constant
        found = iter(
            torch.autograd.grad(outputs, wanted, grads, allow_unused=True, materialize_grads=True)
        )
        return [next(found) if leaf.requires_grad else None for leaf in leaves]

    return tuple(part.detach() for part in parts), pull


def _is_derivative_of(feature_map: str) -> Callable[[ByHand], ByHand]:
    package = __name__.split(".")[0]  # a copy of the package may be loaded under another name

    def enter(by_hand: ByHand) -> ByHand:
        DERIVATIVES[f"{package}.mechanisms.{feature_map}"] = by_hand
        return by_hand

    return enter


@_is_derivative_of("linear.Linear.phi_q")
def _elu_plus_one(_: Any, x: Tensor) -> tuple[Parts, Pullback]:
    """exp(x) below 0 and 1 above."""
    above = x.relu()
    slope = exp_(x - above)
    return (above.add_(slope),), lambda d_phi: (slope.mul_(d_phi),)


@_is_derivative_of("nala.Nala.phi_q")
def _norm_aware_power(core: Any, q: Tensor) -> tuple[Parts, Pullback]:
    """Through the direction, and through the power, which the norm sets."""
    norm, inverse = norm_and_inverse(q)
    d, saturation = q * inverse, norm.tanh()
    log = log2_size(d)
    p = core.lam * (core.tau + saturation)
    slope = (log * (p - 1)).exp2_()
    above, below = split_signs(d.mul_(slope))

    def pull(d_above: Tensor, d_below: Tensor) -> Parts:
        share = (d_above * above).addcmul_(d_below, below)
        total = share.sum(dim=-1, keepdim=True)
        d_p = share.mul_(log).sum(dim=-1, keepdim=True).mul_(math.log(2))
        d_norm = d_p * core.lam * (1 - saturation.square()) - p * total * inverse
        d_signed = d_below.lerp_(d_above, above.sign())
        return (d_signed.mul_(slope).mul_(p * inverse).addcmul_(q, d_norm * inverse),)

    return (above, below), pull


@_is_derivative_of("nala.Nala.phi_k")
def _signed_power(core: Any, k: Tensor) -> tuple[Parts, Pullback]:
    slope = power_slope(k, core.key_power)
    above, below = split_signs(slope * k)

    def pull(d_above: Tensor, d_below: Tensor) -> Parts:
        d_signed = d_below.lerp_(d_above, above.sign())
        return (d_signed.mul_(slope).mul_(core.key_power),)

    return (above, below), pull


@_is_derivative_of("polaformer.Polaformer.phi_q")
def _scaled_power(_: Any, x: Tensor, power: Tensor, scale: Tensor) -> tuple[Parts, Pullback]:
    """(x / scale)^p = x |x|^(p - 1) scale^(-p)."""
    log, log_scale = log2_size(x), scale.log2()
    slope = torch.addcmul(-power * log_scale, log, power - 1).exp2_()
    above, below = split_signs(slope * x)

    def pull(d_above: Tensor, d_below: Tensor) -> Parts:
        share = (d_above * above).addcmul_(d_below, below)
        total = share.sum(dim=(0, 2))[:, None]
        logs = share.mul_(log).sum(dim=(0, 2))[:, None]
        d_signed = d_below.lerp_(d_above, above.sign())
        d_power = (logs - log_scale * total) * math.log(2)
        return d_signed.mul_(slope).mul_(power), d_power, -power / scale * total

    return (above, below), pull


@_is_derivative_of("nala_cosine.NalaCosine.phi_q")
def _inhibited_norm_aware_power(core: Any, q: Tensor) -> tuple[Parts, Pullback]:
    """Through the angle, and through the size, whose power the norm sets."""
    norm, inverse = norm_and_inverse(q)
    d, saturation = q * inverse, norm.tanh()
    p, log = core.lam * (core.tau + saturation), log2_size(d)
    slope = (log * (p - 1)).exp2_()
    gate, cos, sin = _angle(d, core.alpha)
    size = (slope * d).abs_()
    parts = size * cos, size.mul_(sin)

    def pull(d_cos: Tensor, d_sin: Tensor) -> Parts:
        share = (d_cos * parts[0]).addcmul_(d_sin, parts[1])  # the size times its gradient
        d_d = (d_cos * cos).addcmul_(d_sin, sin).mul_(slope).mul_(p).mul_(d.sign())
        d_d.add_(_through_angle(d_cos, d_sin, parts, gate, core.alpha))
        d_p = share.mul_(log).sum(dim=-1, keepdim=True).mul_(math.log(2))
        along = (d_d * d).sum(dim=-1, keepdim=True).mul_(inverse)
        d_norm = d_p * core.lam * (1 - saturation.square()) - along
        return (d_d.mul_(inverse).addcmul_(q, d_norm * inverse),)

    return parts, pull


@_is_derivative_of("nala_cosine.NalaCosine.phi_k")
def _inhibited_power(core: Any, k: Tensor) -> tuple[Parts, Pullback]:
    _, inverse = norm_and_inverse(k)
    d, slope = k * inverse, power_slope(k, core.key_power)
    gate, cos, sin = _angle(d, core.alpha)
    size = (slope * k).abs_()
    parts = size * cos, size.mul_(sin)

    def pull(d_cos: Tensor, d_sin: Tensor) -> Parts:
        by_size = (d_cos * cos).addcmul_(d_sin, sin).mul_(slope).mul_(k.sign())
        d_d = _through_angle(d_cos, d_sin, parts, gate, core.alpha)
        along = (d_d * d).sum(dim=-1, keepdim=True)
        d_d.sub_(d.mul_(along)).mul_(inverse)
        return (d_d.add_(by_size, alpha=core.key_power),)

    return parts, pull


def _angle(d: Tensor, alpha: float) -> Parts:
    """Gate = (1 + tanh(alpha d)) / 2, and the cosine and sine of pi / 4 tanh(alpha d)."""
    gate = (d * (2 * alpha)).sigmoid_()
    sin = (gate * (math.pi / 2)).sub_(math.pi / 4).sin_()
    return gate, (1 - sin * sin).sqrt_(), sin  # the cosine is never below sqrt(1/2)


def _through_angle(
    d_cos: Tensor, d_sin: Tensor, parts: Parts, gate: Tensor, alpha: float
) -> Tensor:
    """The gradient of d by its angle; written over ``d_sin``."""
    d_theta = d_sin.mul_(parts[0]).addcmul_(d_cos, parts[1], value=-1)
    return d_theta.mul_(gate).mul_((1 - gate).mul_(math.pi * alpha))


@_is_derivative_of("flatten.Flatten.phi_q")
def _focused(core: Any, x: Tensor, inverse: Tensor) -> tuple[Parts, Pullback]:
    """Phi = c u^p, where c = unit ||u|| / ||u^p||."""
    joint = core.joint_heads
    u = x.clamp(min=0.0).add_(core.eps).mul_(inverse)
    unit = unit_of(u, core.factor, joint=joint)
    u.mul_(unit.reciprocal())
    powers = u.pow(core.factor)
    squares, squares_of_powers = square(u, joint=joint), square(powers, joint=joint)
    c = unit * (squares / squares_of_powers).sqrt()
    phi = powers.mul_(c)

    def pull(d_phi: Tensor) -> Parts:
        along = (d_phi * phi).sum(dim=-1, keepdim=True)
        along = along.sum(dim=-3, keepdim=True) if joint else along
        share = along * (-core.factor / (c * squares_of_powers))
        d_u = d_phi.mul_(c * core.factor).addcmul_(phi, share).mul_(u.pow(core.factor - 1))
        d_u.addcmul_(u, along / squares)
        d_inverse = (d_u * u).sum(dim=(0, 2))[:, None] / inverse
        is_above = x.clamp(min=0.0).sign_()
        return d_u.mul_(inverse).mul_(is_above.div_(unit)), d_inverse

    return (phi,), pull
