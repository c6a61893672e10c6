"""A plugin with 65 mechanisms: each does one of thirteen things at one of five places."""

from __future__ import annotations

import ctypes
import os
import signal
import stat
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import torch

from attentions import Attention, Capabilities, register_attention


class Unprintable(Exception):
    """An error that cannot say what it is."""

    def __str__(self) -> str:
        raise RuntimeError("no words")


def _raise(error: BaseException) -> Callable[[], Any]:
    def deed() -> None:
        raise error

    return deed


def _recurse() -> None:
    _recurse()


def _with_last_words() -> None:
    sys.stderr.write("\x1b[2J\0" + 10**6 * "x")
    sys.stderr.flush()
    os._exit(3)


def _forge() -> None:
    """Write a forged result to every socket of this worker, its parent's among them."""
    for name in os.listdir("/proc/self/fd"):
        with suppress(OSError):
            if stat.S_ISSOCK(os.fstat(int(name)).st_mode):
                os.write(int(name), b'{"status": "ok", "result": {}, "reason": null}\n')


DEEDS: dict[str, Callable[[], Any]] = {
    "asserts": _raise(AssertionError("\x1b[2J\0\ud800" + 10**6 * "x")),
    "unprintable": _raise(Unprintable()),
    "exits": _raise(SystemExit(0)),
    "interrupts": _raise(KeyboardInterrupt()),
    "stops": _raise(StopIteration()),
    "recurses": _recurse,
    "exhausts": lambda: torch.empty(2**60),
    "leaves": lambda: os._exit(0),
    "last_words": _with_last_words,
    "segfaults": lambda: ctypes.string_at(0),
    "kills_itself": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "forges": _forge,
    "hangs": lambda: time.sleep(1000),
}

PLACES = ("constructor", "flops", "forward", "later", "backward")
LATER = 25
"""Calls before ``later`` misbehaves: past all checks, within the rounds."""


class _Backward(torch.autograd.Function):
    @staticmethod
    def forward(ctx, out, deed):  # type: ignore[no-untyped-def]
        ctx.deed = deed
        return out.clone()

    @staticmethod
    def backward(ctx, gradient):  # type: ignore[no-untyped-def]
        ctx.deed()
        return gradient, None


def _register(place: str, name: str, deed: Callable[[], Any]) -> str:
    class Misbehaving(Attention):
        def __init__(self, geometry: Any) -> None:
            super().__init__(geometry)
            self.num_calls = 0
            if place == "constructor":
                deed()

        def forward(self, q: Any, k: Any, v: Any) -> Any:
            self.num_calls += 1
            if place == "forward" or (place == "later" and self.num_calls > LATER):
                deed()
            out = torch.nn.functional.scaled_dot_product_attention(q, k, v)
            return _Backward.apply(out, deed) if place == "backward" else out

        def flops(self, shape: Any) -> int:
            if place == "flops":
                deed()
            return int(2 * shape.num_pairs * (shape.head_dim + shape.value_dim))

    own = f"{name}_in_{place}"
    can = Capabilities(exact=True)
    register_attention(own, title=own, source="tests", capabilities=can)(Misbehaving)
    return own


MISBEHAVING = {
    name: [_register(place, name, deed) for place in PLACES] for name, deed in DEEDS.items()
}
"""The mechanisms' names, by what they do."""
