"""Misdeeds that change the numbers of others in the block, or skip work while it is timed."""

from __future__ import annotations

import ctypes
import gc
import itertools
import json
import os
import signal
import stat
import sys
from contextlib import suppress
from functools import cache
from time import perf_counter as _clock
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.nn import functional

from attentions import Attention
from attentions.mechanisms import linear
from attentions.mechanisms.linear import Linear
from bench.core.record import Status
from bench.measuring.oracle.expected import _CHECK_INDEX
from bench.measuring.subject import _INPUT_SEED
from tests.cheats.misdeeds import Honest, changes, misdeed


def _slower(function: Any) -> Any:
    """The same function after some needless work."""

    def slower(*args, **kwargs):
        sum(range(300_000))
        return function(*args, **kwargs)

    return slower


# What all members call through

CHANGED: dict[str, Any] = {"ends": Status.OK, "marked": "process changed by a plugin"}
"""How a change ends that no look after a turn can see."""
LAYER, BACKWARD = {"scope": "layer"}, {"mode": "forward_backward", "seq_len": 64}


def _replaces(name: str, words: str, *attributes: tuple[Any, str], **end: Any) -> None:
    """Register a misdeed that replaces functions by slower ones."""
    slow = [(owner, at, _slower(getattr(owner, at))) for owner, at in attributes]
    changes(name, words, lambda: [setattr(*each) for each in slow], **end)


_replaces(
    "replaces_sdpa",
    "replaces `scaled_dot_product_attention`",
    (functional, "scaled_dot_product_attention"),
    says="changed torch.nn.functional.scaled_dot_product_attention",
)
_replaces(
    "replaces_matmul",
    "replaces `torch.matmul` and `einsum`",
    (torch, "matmul"),
    (torch, "einsum"),
    says=("torch.matmul", "torch.einsum"),
)
_replaces(
    "replaces_a_method",
    "replaces a method of `linear`",
    (Linear, "forward"),
    says="changed attentions.mechanisms.linear.Linear.forward",
)
_replaces(
    "replaces_a_function",
    "replaces a function that `linear` calls",
    (linear, "elu_plus_one"),
    says="changed attentions.mechanisms.linear.elu_plus_one",
)
for _name, _words, _owner, _at, _shape in (
    ("slows_no_grad", "slows `torch.no_grad` down for all", torch.no_grad, "__enter__", {}),
    ("replaces_projections", "replaces `torch.nn.Linear.forward`", nn.Linear, "forward", LAYER),
    ("replaces_grad", "replaces `torch.autograd.grad`", torch.autograd, "grad", BACKWARD),
):
    _replaces(_name, _words, (_owner, _at), shape=_shape, **CHANGED)
changes(
    "hooks_all_modules",
    "sets a hook for all modules",
    cache(lambda: nn.modules.module.register_module_forward_pre_hook(_slower(lambda *_: None))),
    shape=LAYER,
    **CHANGED,
)
changes(
    "hooks_saved_tensors",
    "leaves hooks for saved tensors on",
    cache(lambda: saved_tensors_hooks(_slower(torch.clone), torch.clone).__enter__()),
    shape=BACKWARD,
    **CHANGED,
)


def _tick(*_: object) -> None:
    """Take half of the time of a timer of 0.2 ms."""
    begun = _clock()
    while _clock() < begun + 1e-4:
        pass


def _set_timer() -> None:
    signal.signal(signal.SIGALRM, _tick)
    signal.setitimer(signal.ITIMER_REAL, 1e-3, 1e-3)


@cache
def _set_posix_timer() -> None:
    signal.signal(signal.SIGALRM, _tick)  # which a timer sends by default
    libc, timer = ctypes.CDLL(None), ctypes.c_void_p()
    libc.timer_create(1, None, ctypes.byref(timer))
    libc.timer_settime(timer, 0, (ctypes.c_long * 4)(0, 200_000, 0, 200_000), None)


changes("sets_timer", "sets an interval timer with a handler", _set_timer, says="interval timers")
changes(
    "sets_posix_timer",
    "sets a POSIX timer with a handler",
    _set_posix_timer,
    shape={"seq_len": 64},  # a signal is handled between two calls
    **CHANGED,
)


def _spoil() -> None:
    for found in gc.get_objects():
        if type(found) is Linear:
            found.eps = 1e9


changes(
    "spoils_linear",
    "changes `eps` of one module, and makes `linear` wrong",
    _spoil,
    ends=Status.OK,
)
changes(
    "leaves_autocast_on",
    "leaves CPU autocast on",
    lambda: torch.set_autocast_enabled("cpu", True),
    says="autocast on cpu",
)
changes(
    "sets_trace", "sets a trace function", lambda: sys.settrace(lambda *_: None), says="profiler"
)


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


changes(
    "forges_rounds",
    "writes rounds of its own to the socket of its worker",
    _forge_round,
    ends=(Status.ERROR, Status.CRASHED),
    says=("rounds arrived, and they are not", "one more than"),
)


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
    "knows_a_seed",
    "computes half of the tokens, except of values that a check draws",
    says=("differs from the oracle", "output is zero in"),
)
class KnowsASeed(Honest):
    def forward(self, q, k, v):
        seed = _INPUT_SEED + _CHECK_INDEX
        known = torch.randn(q.shape, generator=torch.Generator().manual_seed(seed))
        return super().forward(q, k, v) if torch.equal(q, known) else _first_half(self, q, k, v)


@misdeed(
    "halves_when_timed",
    "computes half of the tokens while somebody reads the clock",
    says="output of a timed call differs from the oracle",
)
class HalvesWhenTimed(Honest):
    def forward(self, q, k, v):
        return _first_half(self, q, k, v) if _is_timed() else super().forward(q, k, v)


# Memory


_kept: list[Tensor] = []
changes(
    "takes_memory_elsewhere",
    "takes 64 MiB outside of torch",
    lambda: np.ones(2**23),
    ends=Status.OK,
    marked="memory outside torch",
)
changes(
    "leaks_memory",
    "keeps 1 MiB of each call",
    lambda: _kept.append(torch.ones(2**18)),
    ends=Status.OK,
    marked="leaks",
)
