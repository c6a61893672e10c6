"""Misdeeds that change the numbers of others in the block, or skip work while it is timed."""

from __future__ import annotations

import gc
import itertools
import json
import os
import signal
import stat
import sys
from contextlib import suppress
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from attentions import Attention
from attentions.mechanisms.linear import Linear
from bench.core.record import Status
from tests.cheats.misdeeds import BAD_ENDS, Honest, in_forward, misdeed

_originals = {
    "scaled_dot_product_attention": functional.scaled_dot_product_attention,
    "matmul": torch.matmul,
    "einsum": torch.einsum,
}
_linear_forward = Linear.forward


def _slower(function: Any) -> Any:
    """The same function after some needless work."""

    def slower(*args, **kwargs):
        sum(range(10_000))
        return function(*args, **kwargs)

    return slower


def _replace_products() -> None:
    torch.matmul, torch.einsum = _slower(_originals["matmul"]), _slower(_originals["einsum"])


# What all members call through


@misdeed(
    "replaces_sdpa",
    "replaces `scaled_dot_product_attention`",
    ends=BAD_ENDS,
    says="changed torch.nn.functional.scaled_dot_product_attention",
)
class ReplacesSdpa(Honest):
    forward = in_forward(
        lambda: setattr(
            functional,
            "scaled_dot_product_attention",
            _slower(_originals["scaled_dot_product_attention"]),
        )
    )


@misdeed(
    "replaces_matmul",
    "replaces `torch.matmul` and `einsum`",
    ends=BAD_ENDS,
    says=("torch.matmul", "torch.einsum"),
)
class ReplacesMatmul(Honest):
    forward = in_forward(_replace_products)


@misdeed(
    "replaces_a_method",
    "replaces a method of `linear`",
    ends=BAD_ENDS,
    says="changed attentions.mechanisms.linear.Linear.forward",
)
class ReplacesAMethod(Honest):
    forward = in_forward(lambda: setattr(Linear, "forward", _slower(_linear_forward)))


_enter = torch.no_grad.__enter__


def _slow_enter(self: Any) -> None:
    sum(range(300_000))
    _enter(self)


@misdeed(
    "slows_no_grad",
    "slows `torch.no_grad` down for all",
    ends=Status.OK,
    marked="process changed by a plugin",
)
class SlowsNoGrad(Honest):
    forward = in_forward(lambda: setattr(torch.no_grad, "__enter__", _slow_enter))


def _tick(*_: object) -> None:
    sum(range(10_000))


def _set_timer() -> None:
    signal.signal(signal.SIGALRM, _tick)
    signal.setitimer(signal.ITIMER_REAL, 1e-3, 1e-3)


@misdeed(
    "sets_timer",
    "sets an interval timer with a handler",
    ends=BAD_ENDS,
    says="interval timers",
)
class SetsTimer(Honest):
    forward = in_forward(_set_timer)


@misdeed("leaves_autocast_on", "leaves CPU autocast on", ends=BAD_ENDS, says="autocast on cpu")
class LeavesAutocastOn(Honest):
    forward = in_forward(lambda: torch.set_autocast_enabled("cpu", True))


@misdeed("sets_trace", "sets a trace function", ends=BAD_ENDS, says="profiler")
class SetsTrace(Honest):
    forward = in_forward(lambda: sys.settrace(lambda *_: None))


def _forge_round() -> None:
    """Every fourth time in the rounds, write a round to each socket, the parent's among them."""
    frame: Any = sys._getframe()
    while frame is not None and frame.f_code.co_name != "rounds":
        frame = frame.f_back
    if frame is None or next(_num_forgeries) % 4:
        return
    line = json.dumps({"round": [1e-3] * len(frame.f_locals["cells"])}).encode() + b"\n"
    for name in os.listdir("/proc/self/fd"):
        with suppress(OSError):
            if stat.S_ISSOCK(os.fstat(int(name)).st_mode):
                os.write(int(name), line)


_num_forgeries = itertools.count(1)


@misdeed(
    "forges_rounds",
    "writes rounds of its own to the socket of its worker",
    ends=(Status.ERROR, Status.CRASHED),
    says=("rounds arrived, and they are not", "one more than"),
)
class ForgesRounds(Honest):
    forward = in_forward(_forge_round)


# Work that is not done, or not where it is timed


class _Later(Tensor):
    """Computes when it is first used."""

    @classmethod
    def __torch_function__(cls, function, types, args=(), kwargs=None):
        def computed(x):
            if not isinstance(x, _Later):
                return x
            return Honest.forward(x.core, *x.tensors)

        flat = [computed(x) for x in args]
        return function(*flat, **(kwargs or {}))


@misdeed(
    "computes_later",
    "returns a tensor that computes when it is first used",
    says="subclass of Tensor",
)
class ComputesLater(Honest):
    def forward(self, q, k, v):
        out = v.as_subclass(_Later)
        out.core, out.tensors = self, (q, k, v)
        return out


@misdeed(
    "reads_uninitialised",
    "adds memory that nobody has written, times zero",
    says=("uninitialised", "NaN"),
)
class ReadsUninitialised(Honest):
    def forward(self, q, k, v):
        return super().forward(q, k, v) + 0 * torch.empty_like(v)


@misdeed("finds_oracle", "looks for the oracle's answer in memory", says="differs")
class FindsOracle(Honest):
    def forward(self, q, k, v):
        out = v.clone()
        for found in gc.get_objects():
            if not (isinstance(found, Tensor) and found.dtype is torch.float64):
                continue
            length = v.shape[-2]
            if found.shape == v.shape and found.isfinite().all() and not (found == v).all():
                return found.to(v.dtype)
            if found.shape[-1:] == v.shape[-1:] and found.shape[-2:-1] == (256,):
                rows = [(i + 1) * length // 256 - 1 for i in range(256)]
                out[..., rows, :] = found.to(v.dtype)
        return out


def _is_timed() -> bool:
    frame: Any = sys._getframe()
    while frame is not None and frame.f_code.co_name != "time_calls":
        frame = frame.f_back
    return frame is not None


@misdeed(
    "rests_when_timed",
    "computes nothing while somebody reads the clock",
    says="output of a timed call differs from the oracle",
)
class RestsWhenTimed(Honest):
    kept = None

    def forward(self, q, k, v):
        if self.kept is None or not _is_timed():
            self.kept = super().forward(q, k, v)
        return self.kept


def _first_half(self: Attention, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    half = q.shape[-2] // 2
    out = Honest.forward(self, q[..., :half, :], k[..., :half, :], v[..., :half, :])
    return functional.pad(out, (0, 0, 0, q.shape[-2] - half))


@misdeed(
    "rests_without_collector",
    "computes half of the tokens while the garbage collector is off",
    says=("differs from the oracle", "output is zero in"),
)
class RestsWithoutCollector(Honest):
    def forward(self, q, k, v):
        return super().forward(q, k, v) if gc.isenabled() else _first_half(self, q, k, v)


@misdeed(
    "halves_when_timed",
    "computes half of the tokens while somebody reads the clock",
    says="output of a timed call differs from the oracle",
)
class HalvesWhenTimed(Honest):
    def forward(self, q, k, v):
        return _first_half(self, q, k, v) if _is_timed() else super().forward(q, k, v)


# Memory


@misdeed(
    "takes_memory_elsewhere",
    "takes 64 MiB outside of torch",
    ends=Status.OK,
    marked="memory outside torch",
)
class TakesMemoryElsewhere(Honest):
    def forward(self, q, k, v):
        np.ones(2**23)
        return super().forward(q, k, v)


@misdeed("leaks_memory", "keeps 1 MiB of each call", ends=Status.OK, marked="leaks")
class LeaksMemory(Honest):
    def __init__(self, geometry):
        super().__init__(geometry)
        self.kept = []

    def forward(self, q, k, v):
        self.kept.append(torch.ones(2**18))
        return super().forward(q, k, v)
