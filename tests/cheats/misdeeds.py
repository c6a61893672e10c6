"""A plug-in with one mechanism per misdeed, each with the end that its cell must have."""

from __future__ import annotations

import functools
import hashlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch

from attentions import Attention, Capabilities, register_attention
from bench.core.record import Record, Status
from bench.publishing.metrics.marks import marks

BAD_ENDS = (Status.INCORRECT, Status.ERROR)
"""Ends of a mechanism that is caught; either will do, as long as the reason says why."""

PLUGINS = [__name__, "tests.cheats.neighbours", "tests.cheats.at_import"]
SHAPE = {"plugins": PLUGINS, "seq_len": 1088, "num_heads": 1, "causal": True}
"""Shape of the sweep of all misdeeds: beyond the 1,024 tokens up to which one of them is right."""


def child_of(server: int) -> list[str]:
    """The command of the child process that a worker of a server starts, of that server alone."""
    return ["sleep", f"6187.{server}"]


@dataclass(frozen=True)
class Misdeed:
    """One mechanism, and how its cell has to end.

    Attributes:
        words: what it does.
        ends: statuses that its cell may end with.
        says: texts of which one must be in the reason of a cell that is not ``ok``.
        marked: the start of a mark that the row of an ``ok`` cell must have.
        shape: settings of its sweep.
    """

    name: str
    words: str
    ends: tuple[Status, ...]
    says: tuple[str, ...]
    marked: str
    shape: dict[str, Any]

    def fault(self, record: Record) -> str | None:
        """How a record differs from the required end; None if it does not."""
        if record.status not in self.ends:
            return f"must be {' or '.join(self.ends)}"
        if record.status is Status.OK:
            is_told = any(mark.startswith(self.marked) for mark in marks(record))
            return None if is_told else f"no mark {self.marked!r}"
        is_told = any(words in str(record.reason) for words in self.says)
        return None if is_told else f"nothing about {' or '.join(self.says)}"


MISDEEDS: list[Misdeed] = []


def misdeed(
    name: str,
    words: str,
    *,
    ends: Status | tuple[Status, ...] = Status.INCORRECT,
    says: str | tuple[str, ...] = "",
    marked: str = "",
    exact: bool = True,
    shape: dict[str, Any] | None = None,
) -> Callable[[type[Attention]], type[Attention]]:
    """Register a mechanism that claims a causal form, and how its cell has to end."""

    def enter(cls: type[Attention]) -> type[Attention]:
        wanted = (ends,) if isinstance(ends, Status) else ends
        reasons = (says,) if isinstance(says, str) else says
        MISDEEDS.append(Misdeed(name, words, wanted, reasons, marked, SHAPE | (shape or {})))
        can = Capabilities(causal=True, exact=exact)
        register_attention(name, title=words, source="tests", capabilities=can)(cls)
        return cls

    return enter


class Honest(Attention):
    """Softmax by torch: what each misdeed starts from."""

    def forward(self, q, k, v):
        return torch.nn.functional.scaled_dot_product_attention(
            q, k, v, is_causal=self.geometry.causal
        )

    def flops(self, shape):
        return 2 * shape.num_pairs * (shape.head_dim + shape.value_dim)

    def executed_flops(self, shape):
        return self.flops(replace(shape, causal=False))  # torch's kernel works on whole tiles


# Wrong outputs, at the right moment


@misdeed("zeros_beyond_1024", "returns zeros beyond 1,024 tokens", says=("zero", "differs"))
class ZerosBeyond1024(Honest):
    def forward(self, q, k, v):
        return super().forward(q, k, v) if q.shape[-2] <= 1024 else torch.zeros_like(v)


class Cached(Honest):
    """Answers from a cache by a key of each input."""

    def __init__(self, geometry):
        super().__init__(geometry)
        self.kept = {}

    def forward(self, q, k, v):
        key = tuple(self.key(x) for x in (q, k, v))
        if key not in self.kept:
            self.kept[key] = super().forward(q, k, v)
        return self.kept[key]


@misdeed("cache_by_address", "answers from a cache by address")
class CacheByAddress(Cached):
    key = staticmethod(torch.Tensor.data_ptr)


@misdeed(
    "cache_by_value",
    "answers from a cache by value",
    ends=(Status.OK, *BAD_ENDS),  # allowed, as long as the cache makes it no faster
)
class CacheByValue(Cached):
    key = staticmethod(lambda x: float(x.sum()))


class Counting(Honest):
    """Counts its calls."""

    num_calls = 0

    def forward(self, q, k, v):
        self.num_calls += 1
        return super().forward(q, k, v)


@misdeed("right_at_first", "is right in its first calls only")
class RightAtFirst(Counting):
    def forward(self, q, k, v):
        out = super().forward(q, k, v)
        return out if self.num_calls <= 6 else v.clone()


@misdeed("nan_from_13th_call", "gives NaN from its 13th call on", says="NaN")
class NanFrom13thCall(Counting):
    def forward(self, q, k, v):
        out = super().forward(q, k, v)
        return out if self.num_calls < 13 else out * torch.nan


@misdeed("changes_inputs", "changes its inputs so that a mean is right", says=("input", "differs"))
class ChangesInputs(Honest):
    def forward(self, q, k, v):
        k.zero_()
        counts = torch.arange(1, v.shape[-2] + 1, dtype=v.dtype, device=v.device)
        return v.cumsum(dim=-2) / counts[:, None]


# What the process shares


def changes(name: str, words: str, change: Callable[[], Any], **end: Any) -> None:
    """Register a misdeed that calls a function, each time, before it computes."""

    def forward(self, q, k, v):
        change()
        return Honest.forward(self, q, k, v)

    cls = type(name, (Honest,), {"forward": forward, "__module__": __name__})
    misdeed(name, words, **({"ends": BAD_ENDS} | end))(cls)


changes(
    "sets_threads", "sets the number of threads", lambda: torch.set_num_threads(3), says="threads"
)
changes(
    "sets_deterministic",
    "switches to deterministic algorithms",
    lambda: torch.use_deterministic_algorithms(True),
    says="deterministic",
)
changes(
    "sets_default_dtype",
    "sets the default dtype",
    lambda: torch.set_default_dtype(torch.float64),
    says="default dtype",
)
changes(
    "sets_flush_denormal",
    "flushes denormal numbers",
    lambda: torch.set_flush_denormal(True),
    says="denormal",
)
changes(
    "sets_matmul_precision",
    "lowers the precision of float32 products",
    lambda: torch.set_float32_matmul_precision("medium"),
    says="precision",
)


_perf_counter_ns, _perf_counter = time.perf_counter_ns, time.perf_counter


def _slow_clocks() -> None:
    time.perf_counter = lambda: _perf_counter() / 1000
    time.perf_counter_ns = lambda: _perf_counter_ns() // 1000


def _freeze_clocks() -> None:
    for name in ("time", "monotonic", "perf_counter"):
        setattr(time, name, lambda: 1.0)
        setattr(time, f"{name}_ns", lambda: 10**9)


changes(
    "slows_clock",
    "lets the clock tick a thousand times too slowly",
    _slow_clocks,
    says=("time", "clock"),
)
changes("freezes_clock", "freezes the clock", _freeze_clocks, says=("time", "clock"))


@functools.cache
def _burn() -> None:
    def forever():
        while True:
            hashlib.sha256(bytes(2**20)).digest()  # without Python's lock

    threading.Thread(target=forever, daemon=True).start()


changes(
    "burns_core",
    "starts a thread that burns a core",
    _burn,
    ends=(Status.OK, *BAD_ENDS),
    says="thread",
    marked="own threads",
)


@functools.cache
def _spawn() -> None:
    subprocess.Popen(child_of(os.getppid()), start_new_session=True)


changes("starts_child", "starts a child process", _spawn, ends=(Status.OK, *BAD_ENDS))


# Raising before it is timed


def _raises_at_first(name: str, words: str, error: BaseException, says: str) -> None:
    def __init__(self, geometry):
        raise error

    cls = type(name, (Honest,), {"__init__": __init__, "__module__": __name__})
    misdeed(name, words, ends=Status.ERROR, says=says)(cls)


_raises_at_first(
    "asserts_in_constructor",
    "asserts in its constructor",
    AssertionError("seven heads"),
    "AssertionError: seven heads",
)
_raises_at_first(
    "key_error_in_constructor", "raises a KeyError there", KeyError("gamma"), "KeyError: 'gamma'"
)
_raises_at_first("exits_in_constructor", "ends the process there", SystemExit(0), "SystemExit")
_raises_at_first(
    "interrupts_in_constructor", "raises Ctrl-C there", KeyboardInterrupt(), "KeyboardInterrupt"
)
_raises_at_first(
    "long_words",
    "raises a text of 10 MB with escapes, NUL and half characters",
    RuntimeError("\x1b[2J\0\ud800" + 10**7 * "x"),
    "RuntimeError: \\x1b[2J\\x00\\ud800xxx",
)


@misdeed(
    "long_last_words",
    "ends its process after it wrote 10 MB",
    ends=Status.CRASHED,
    says="exit code 3",
)
class LongLastWords(Honest):
    def forward(self, q, k, v):
        sys.stderr.write("\x1b[2J\0" + 10**7 * "x")
        sys.stderr.flush()
        os._exit(3)


def _costs(name: str, words: str, value: Any, says: str) -> None:
    def flops(self, shape):
        if isinstance(value, BaseException):
            raise value
        return value

    cls = type(name, (Honest,), {"flops": flops, "__module__": __name__})
    misdeed(name, words, ends=Status.ERROR, says=says)(cls)


_costs("raises_in_flops", "raises in flops()", SystemExit("stop"), "SystemExit: stop")
_costs("flops_are_nan", "gives NaN for its FLOPs", float("nan"), "flops() gives nan")
_costs("flops_are_inf", "gives infinity for them", float("inf"), "flops() gives inf")
_costs("flops_are_none", "gives None for them", None, "flops() gives None")
_costs("flops_are_negative", "gives a negative number for them", -1, "flops() gives -1")
_costs("flops_are_a_word", "gives a word for them", "few", "flops() gives 'few'")


@misdeed("raises_on_meta", "raises where its memory is estimated", ends=(Status.OK, Status.ERROR))
class RaisesOnMeta(Honest):
    def forward(self, q, k, v):
        if q.is_meta:
            raise SystemExit("no values, no work")
        return super().forward(q, k, v)


# Claims that it breaks


class NoProducts(Honest):
    def flops(self, shape):
        return 0


@misdeed("leaks_future", "sees the future", exact=False, ends=Status.OK, marked="leaks the future")
class LeaksFuture(NoProducts):
    def forward(self, q, k, v):
        return v.mean(dim=-2, keepdim=True) + v.cumsum(dim=-2)


@misdeed(
    "returns_view",
    "returns a view of an input",
    exact=False,
    ends=Status.OK,
    marked="output is a view",
)
class ReturnsView(NoProducts):
    def forward(self, q, k, v):
        return v.view_as(v)


@misdeed("doubles_flops", "says twice the FLOPs", ends=Status.OK, marked="FLOPs")
class DoublesFlops(Honest):
    def flops(self, shape):
        return 2 * super().flops(shape)


@misdeed(
    "has_no_reference",
    "has no reference",
    exact=False,
    ends=Status.OK,
    marked="checked against itself",
)
class HasNoReference(NoProducts):
    def forward(self, q, k, v):
        return v.cumsum(dim=-2) / v.shape[-2]
