"""What a kernel cell times: a built mechanism, its inputs, and one call of its mode."""

from __future__ import annotations

import importlib
import os
import tempfile
from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from attentions import CallShape, Geometry
from bench import inputs
from bench.cell import Cell, KernelWorkload

_WEIGHT_SEED = 0
_INPUT_SEED = 1000
_ROTATED_BYTES = 64 * 2**20
_NUM_SETS = 4
COMPILED_PREFIX = "attnbench-inductor-"
"""Of the temporary folders with compiled kernels; the workers' server follows, a cell in each."""
_MAX_COMPILED = 64
"""Forms of one function that dynamo keeps; beyond it would run the function uncompiled."""
_LEARNING_RATE = 1e-5
"""Small: a benchmark takes thousands of steps on one batch, and must not run off to infinity."""


def geometry_of(workload: KernelWorkload) -> Geometry:
    """The geometry that a workload asks a mechanism to be built for."""
    return Geometry(
        num_heads=workload.num_heads,
        head_dim=workload.head_dim,
        seq_len=workload.seq_len,
        causal=workload.causal,
        num_kv_heads=workload.num_kv_heads or workload.num_heads,
    )


def shape_of(workload: KernelWorkload) -> CallShape:
    """The sizes of one call of a workload."""
    return CallShape(
        batch_size=workload.batch_size,
        num_heads=workload.num_heads,
        query_len=workload.seq_len,
        key_len=workload.seq_len,
        head_dim=workload.head_dim,
        value_dim=workload.head_dim,
        causal=workload.causal,
    )


def build_module(
    cell: Cell, device: str | None = None, library: ModuleType | None = None
) -> nn.Module:
    """The mechanism of a kernel cell, with seeded weights, in its dtype, on its device.

    Args:
        cell: the cell.
        device: another device than the cell's own; ``meta`` allocates nothing.
        library: another copy of the `attentions` package to build it from.

    Raises:
        ValueError, TypeError: it cannot be built for this shape or these hyperparameters.
        ImportError: an optional package is missing.
    """
    w = cell.kernel
    attentions: Any = library or importlib.import_module("attentions")
    settings: dict[str, Any] = {"num_heads": w.num_heads, "head_dim": w.head_dim}
    settings |= {"seq_len": w.seq_len, "causal": w.causal}
    if w.num_kv_heads is not None:  # another library may be older than this field
        settings["num_kv_heads"] = w.num_kv_heads
    geometry = attentions.Geometry(**settings)
    build = attentions.build_layer if w.scope == "layer" else attentions.build_attention
    torch.manual_seed(_WEIGHT_SEED)
    module: nn.Module = build(cell.mechanism, geometry, **cell.hyperparameters)
    # Evaluation where nothing is learned: what happens once in a thousand training steps, such
    # as a redraw of random features, belongs to modes with a backward pass.
    module = module.to(device or cell.device, getattr(torch, w.dtype))
    return module.train(w.has_backward)


def layout_of(module: nn.Module) -> str:
    """The strides that a module's inputs should have."""
    core: Any = getattr(module, "core", module)
    return str(core.capabilities.memory_layout)


class Subject:
    """A built cell that can be called.

    Attributes:
        module: the mechanism, as a core or as a layer.
        sets: input tuples as `inputs.make` returns them; calls rotate over them, so that no call
            finds its own inputs in the cache of values.
        call: runs the mode once, on the next input set: `forward`, or a step, itself. The first
            call goes through the module, which checks its inputs; compiled code checks nothing.
        eager_call: the same without the compiler; `call` itself unless the cell compiles.
    """

    def __init__(
        self,
        cell: Cell,
        *,
        seq_len: int | None = None,
        library: ModuleType | None = None,
        sets: list[tuple[Tensor, ...]] | None = None,
    ) -> None:
        if seq_len is not None:
            cell = replace(cell, workload=replace(cell.kernel, seq_len=seq_len))
        self.cell = cell
        self.module = self._build(library)
        self.parameters = [p for p in self.module.parameters() if p.requires_grad]
        self.sets = [self._inputs(0)] if sets is None else sets
        make = _MODES[cell.timed.mode]
        self.eager_call = make(self, _CheckedOnce(self.module))
        self.call = self.eager_call
        if cell.timed.compile == "inductor":
            self.call = make(self, _Compiled(self.module, cell))

    def _build(self, library: ModuleType | None) -> nn.Module:
        return build_module(self.cell, library=library)

    def _inputs(self, index: int) -> tuple[Tensor, ...]:
        return inputs.make(
            self.cell.kernel,
            seed=_INPUT_SEED + index,
            dtype=getattr(torch, self.cell.kernel.dtype),
            device=torch.device(self.cell.device),
            layout=layout_of(self.module),
        )

    def rotate(self) -> None:
        """Add input sets until a call does not repeat its predecessor's, memory permitting."""
        size = sum(t.numel() * t.element_size() for t in self.sets[0])
        while len(self.sets) < _NUM_SETS and size * (len(self.sets) + 1) <= _ROTATED_BYTES:
            self.sets.append(self._inputs(len(self.sets)))

    def forward(self, tensors: tuple[Tensor, ...]) -> Tensor:
        """The output for one input set; of a decode step, that of the last token."""
        if self.cell.kernel.mode == "decode":
            out, _ = self.step(tensors, self.state_before_last(tensors), slice(-1, None))
            return out
        if self.cell.kernel.mode == "prefill":
            return self.step(tensors, self.empty_state(), slice(None))[0]
        whole: Tensor = self.module(*tensors[:-1])
        return whole

    def gradients(self, out: Tensor, tensors: tuple[Tensor, ...]) -> tuple[Tensor | None, ...]:
        """Gradients of ``sum(out * cotangent)``: of the inputs first, then of the parameters."""
        cotangent = self.cotangent(out, tensors)
        return torch.autograd.grad(out, self.wanted(tensors), cotangent, allow_unused=True)

    def wanted(self, tensors: tuple[Tensor, ...]) -> list[Tensor]:
        """What gradients are taken of, for one input set."""
        return [*tensors[:-1], *self.parameters]

    def cotangent(self, out: Tensor, tensors: tuple[Tensor, ...]) -> Tensor:
        """What an output is weighted with before its gradients are taken."""
        return tensors[-1]

    def empty_state(self) -> Any:
        """The state of a recurrent form before the first token."""
        module: Any = self.module
        w = self.cell.kernel
        dtype, device = getattr(torch, w.dtype), torch.device(self.cell.device)
        return module.init_state(w.batch_size, dtype=dtype, device=device)

    def step(
        self, tensors: tuple[Tensor, ...], state: Any, tokens: slice, stepper: Any = None
    ) -> tuple[Tensor, Any]:
        """Some tokens of an input set through the recurrent form, or through another `step`."""
        parts = [t[..., tokens, :] for t in tensors[:-1]]
        other: Any = self.module if stepper is None else stepper
        out, after = other.step(*parts, state)
        return out, after

    @torch.no_grad()
    def state_before_last(self, tensors: tuple[Tensor, ...]) -> Any:
        """The state when all tokens but the last have been seen."""
        state = self.empty_state()
        if self.cell.kernel.seq_len == 1:
            return state
        return self.step(tensors, state, slice(None, -1))[1]

    def state_bytes(self) -> int | None:
        """Bytes that the past takes at this context length; None for modes without a state."""
        if self.cell.kernel.mode not in ("prefill", "decode"):
            return None
        kept: dict[int, int] = {}
        _collect(self.state_before_last(self.sets[0]), kept)
        return sum(kept.values())


def _collect(state: Any, kept: dict[int, int]) -> None:
    if isinstance(state, Tensor):
        storage = state.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
    elif isinstance(state, (tuple, list)):
        for part in state:
            _collect(part, kept)


class _CheckedOnce:
    """A module's `forward` and `step`; the first call checks its inputs, as a user's calls do."""

    def __init__(self, module: nn.Module) -> None:
        self._run: Callable[..., Any] = module
        self._forward = module.forward
        self._step: Any = getattr(module, "step", None)
        self._unchecked_step = _unchecked_step(module)

    def __call__(self, *tensors: Tensor) -> Any:
        run, self._run = self._run, self._forward
        return run(*tensors)

    def step(self, *tokens_and_state: Any) -> Any:
        step, self._step = self._step, self._unchecked_step
        return step(*tokens_and_state)


def _unchecked_step(module: Any) -> Callable[..., Any] | None:
    """A core's `step` without the checks that stand before it; a layer's as it is."""
    step: Any = getattr(module, "step", None)
    inner = getattr(step, "__wrapped__", None)
    return step if inner is None else partial(inner, module)


def compiled_folder(cell: Cell) -> Path:
    """Where the kernels of a compiled cell lie: one place for all workers of a server."""
    return _compiled_folders() / cell.key


def _compiled_folders() -> Path:
    return Path(tempfile.gettempdir(), f"{COMPILED_PREFIX}{os.getppid()}")


@cache
def _prepare_compiler() -> None:
    """Have inductor find out what is the same for all cells, such as which vectors there are.

    It compiles small programs for that, once per machine, and with an empty folder anew: that
    would be most of the time that a small cell takes to compile.
    """
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(_compiled_folders() / "machine")
    torch.compile(lambda x: x.exp() + 1)(torch.ones(64))


class _Compiled:
    """A module's `forward` and `step` through inductor, `forward` in one graph if it claims so.

    Each cell has a folder of kernels, so that no trial profits from another one's, and so that the
    rounds of a block take what its trials have compiled.
    """

    def __init__(self, module: nn.Module, cell: Cell) -> None:
        if cell.device == "cpu":
            _prepare_compiler()
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(compiled_folder(cell))
        torch._dynamo.config.recompile_limit = _MAX_COMPILED
        core: Any = getattr(module, "core", module)
        is_whole = hasattr(core, "capabilities") and core.capabilities.compiles
        stepper: Any = module
        self._forward = torch.compile(module.forward, dynamic=False, fullgraph=is_whole)
        self.step = torch.compile(stepper.step, dynamic=False) if hasattr(module, "step") else None

    def __call__(self, *tensors: Tensor) -> Any:
        return self._forward(*tensors)


Call = Callable[[], Any]


def _forward(subject: Subject, module: Any) -> Call:
    take = _Rotation(subject)

    def call() -> Any:
        with torch.no_grad():
            return module(*take()[:-1])

    return call


def _forward_backward(subject: Subject, module: Any) -> Call:
    take = _Rotation(subject)

    def call() -> Any:
        tensors = take()
        return subject.gradients(module(*tensors[:-1]), tensors)

    return call


def _backward(subject: Subject, module: Any) -> Call:
    """The backward pass alone: each input set's graph is made once, and kept."""
    take = _Rotation(subject)
    graphs: dict[int, Tensor] = {}

    def call() -> Any:
        tensors = take()
        if id(tensors) not in graphs:
            graphs[id(tensors)] = module(*tensors[:-1])
        out, wanted = graphs[id(tensors)], subject.wanted(tensors)
        cotangent = subject.cotangent(out, tensors)
        return torch.autograd.grad(out, wanted, cotangent, allow_unused=True, retain_graph=True)

    return call


def _train_step(subject: Subject, module: Any) -> Call:
    take = _Rotation(subject)
    optimiser = torch.optim.AdamW(subject.parameters, lr=_LEARNING_RATE)

    def call() -> None:
        tensors = take()
        out = module(*tensors[:-1])
        out.backward(subject.cotangent(out, tensors))
        optimiser.step()
        optimiser.zero_grad()
        for tensor in tensors[:-1]:
            tensor.grad = None

    return call


def _prefill(subject: Subject, module: Any) -> Call:
    take = _Rotation(subject)

    def call() -> Any:
        with torch.no_grad():
            return subject.step(take(), subject.empty_state(), slice(None), module)

    return call


def _decode(subject: Subject, module: Any) -> Call:
    """One token on top of a state that is made once per input set."""
    take = _Rotation(subject)
    states: dict[int, Any] = {}

    def call() -> Any:
        tensors = take()
        if id(tensors) not in states:
            states[id(tensors)] = subject.state_before_last(tensors)
        with torch.no_grad():
            return subject.step(tensors, states[id(tensors)], slice(-1, None), module)

    return call


class _Rotation:
    """The next input set, round and round."""

    def __init__(self, subject: Subject) -> None:
        self._subject = subject
        self._next = 0

    def __call__(self) -> tuple[Tensor, ...]:
        sets = self._subject.sets
        self._next = (self._next + 1) % len(sets)
        return sets[self._next]


_MODES: dict[str, Callable[[Subject, Any], Call]] = {
    "forward": _forward,
    "backward": _backward,
    "forward_backward": _forward_backward,
    "train_step": _train_step,
    "prefill": _prefill,
    "decode": _decode,
}
