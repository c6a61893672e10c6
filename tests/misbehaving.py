"""Mechanisms that go wrong in many ways; a plug-in of the tests."""

import ctypes
import os
import signal
import time
from itertools import islice
from pathlib import Path

import torch
from torch import nn

from attentions import Capabilities, register_attention
from attentions.base import Attention
from bench.core import clock
from bench.core.cli.temporary import workers_folder
from bench.measuring.device import cpu
from bench.measuring.tasks.base import NO_ANSWER, Batch, register_task
from bench.measuring.tasks.recall import Recall


class _Softmax(Attention):
    def forward(self, q, k, v):
        return torch.nn.functional.scaled_dot_product_attention(q, k, v)

    def flops(self, shape):
        return 2 * shape.num_pairs * (shape.head_dim + shape.value_dim)


def _register(name, forward, exact=False):
    cls = type(
        name.title().replace("_", ""), (_Softmax,), {"forward": forward, "__module__": __name__}
    )
    register_attention(name, title=name, source="tests", capabilities=Capabilities(exact=exact))(
        cls
    )


def _noise(self, q, k, v):
    out = _Softmax.forward(self, q, k, v)
    return out * (1 + 0.01 * torch.randn_like(out))


def _fixed_noise(self, q, k, v):
    out = _Softmax.forward(self, q, k, v)
    generator = torch.Generator().manual_seed(0)
    return out * (1 + 0.01 * torch.randn(out.shape, generator=generator).to(out.dtype))


def _hang(self, q, k, v):
    time.sleep(1000)


def _segfault(self, q, k, v):
    ctypes.string_at(0)


def _exhaust(self, q, k, v):
    return torch.empty(2**60)


def _hoard(self, q, k, v):
    """Allocates memory in pieces until it fails; no page is touched, so none is really used."""
    kept = [torch.empty(2**28, dtype=torch.uint8) for _ in range(2**14)]
    return v + len(kept)


def _killed(self, q, k, v):
    os.kill(os.getpid(), signal.SIGKILL)


def _litter(self, q, k, v):
    Path(workers_folder(), "kernel.so").write_text("")
    os.kill(os.getpid(), signal.SIGKILL)


def _raise(self, q, k, v):
    raise RuntimeError("a bug\nof the mechanism")


def _wrong_gradient(self, q, k, v):
    out = _Softmax.forward(self, q, k, v)
    return out.detach() + 0.5 * (out - out.detach())


_calls = [0]


def _crash_later(self, q, k, v):
    """Passes its trial and ends the shared worker: a trial makes fewer calls than the rounds."""
    _calls[0] += 1
    if _calls[0] > 20:
        os._exit(7)
    return _Softmax.forward(self, q, k, v)


def _stale_later(self, q, k, v):
    """Right for as many calls as a trial makes; from the tenth on it returns the same output."""
    self.num_calls = getattr(self, "num_calls", 0) + 1
    if self.num_calls < 10:
        self.given = _Softmax.forward(self, q, k, v)
    return self.given


def _new_graph_each_time(self, q, k, v):
    """A compiler takes the changing attribute for a constant, and compiles again at each call."""
    self.num_calls = getattr(self, "num_calls", 0) + 1
    return _Softmax.forward(self, q, k, v) * (self.num_calls / self.num_calls)


_wall_ns = clock.wall_ns


def _lie_about_time(self, q, k, v):
    """Replaces the harness's own clock, which only another clock can reveal."""
    clock.wall_ns = cpu.wall_ns = lambda: _wall_ns() // 10
    return _Softmax.forward(self, q, k, v)


class _EvenOnly(_Softmax):
    """Refuses an odd head_dim, or any if `window` is negative; with `leaves`, ends the process."""

    def __init__(self, geometry, window=1, leaves=False):
        super().__init__(geometry)
        if leaves:
            os._exit(5)
        if window < 0 or geometry.head_dim % 2:
            raise ValueError(f"head_dim is {geometry.head_dim}, window is {window}")


register_attention("even_only", title="even", source="tests", capabilities=Capabilities())(
    _EvenOnly
)
_register("new_graph_each_time", _new_graph_each_time, exact=True)
_register("stale_later", _stale_later, exact=True)
_register("lies_about_time", _lie_about_time, exact=True)
_register("good", _Softmax.forward, exact=True)
_register("zeros", lambda self, q, k, v: torch.zeros_like(v) * v.sum())
_register("constant", lambda self, q, k, v: torch.full_like(v, 0.5) + 0 * v.sum())
_register("not_a_number", lambda self, q, k, v: v / 0 * 0)
_register("noise", _noise)
_register("fixed_noise", _fixed_noise, exact=True)
_register("wrong_shape", lambda self, q, k, v: v[..., :1])
_register("wrong_gradient", _wrong_gradient, exact=True)
_register("hang", _hang)
_register("segfault", _segfault)
_register("exhaust", _exhaust)
_register("hoard", _hoard)
_register("killed", _killed)
_register("litter", _litter)
_register("raises", _raise)
_register("gives_none", lambda self, q, k, v: None)
_register("gives_two", lambda self, q, k, v: (v, v))
_register("gives_numpy", lambda self, q, k, v: v.detach().numpy())
_register("crash_later", _crash_later)


def _raising_task(name, error):
    def __init__(self, recipe):
        raise error

    register_task(name)(type(name, (Recall,), {"__init__": __init__, "__module__": __name__}))


_raising_task("asserting_task", AssertionError("seven pairs"))
_raising_task("leaving_task", SystemExit(0))


def _odd_task(name, **members):
    register_task(name)(type(name, (Recall,), {"__module__": __name__} | members))


_odd_task("task_with_a_word_for_files", files=lambda self: "data.txt")
_odd_task("task_with_a_method_for_geometry", geometry=lambda self: None)
_odd_task("task_without_a_guess", guess=None)
_odd_task("task_without_batches", batches=lambda self, split, seed: iter(()))
_odd_task(
    "task_with_one_batch",
    batches=lambda self, split, seed: islice(Recall.batches(self, split, seed), 1),
)
_odd_task(
    "task_with_few_classes",
    batches=lambda self, split, seed: (
        Batch(inputs=batch.inputs, targets=batch.targets + 99, positions=batch.positions)
        for batch in Recall.batches(self, split, seed)
    ),
)
_odd_task("task_with_a_wide_embedding", embedding=lambda self, dim: nn.Embedding(64, dim + 1))
_odd_task("task_with_pairs_for_batches", batches=lambda self, split, seed: iter([(1, 2)]))
_odd_task("task_with_nothing_for_batches", batches=lambda self, split, seed: None)


def _silent(self, split, seed):
    for batch in Recall.batches(self, split, seed):
        yield Batch(inputs=batch.inputs, targets=batch.targets * 0 + NO_ANSWER)


_odd_task("task_that_asks_nothing", batches=_silent)


def _with(**parts):
    """The batches of recall with other tensors in place of some, each a function of the batch."""

    def batches(self, split, seed):
        for batch in Recall.batches(self, split, seed):
            kept = {"inputs": batch.inputs, "targets": batch.targets, "positions": batch.positions}
            yield Batch(**kept | {name: change(batch) for name, change in parts.items()})

    return batches


_odd_task("task_with_fractions", batches=_with(targets=lambda batch: batch.targets.float()))
_odd_task("task_with_more_targets", batches=_with(targets=lambda batch: batch.targets.repeat(1, 2)))
_odd_task("task_with_fewer_inputs", batches=_with(inputs=lambda batch: batch.inputs[1:]))
