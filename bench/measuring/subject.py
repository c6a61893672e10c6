"""Subject of a kernel cell: a built mechanism, its inputs, and one call of its mode."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from bench.core.cell import Cell
from bench.measuring import inputs
from bench.measuring.building import build_module, layout_of
from bench.measuring.device import device_named
from bench.measuring.drawn_gates import DrawnGates, gates_of
from bench.measuring.runners import CheckedOnce, Compiled

_INPUT_SEED = 1000
_ROTATED_BYTES = 64 * 2**20
_NUM_SETS = 4
_LEARNING_RATE = 1e-5
"""Small, because thousands of steps on one batch must not diverge."""


class Subject:
    """A built cell that can be called.

    Attributes:
        library: the package it is built from; None for this tree's.
        module: the mechanism, as a core or as a layer.
        gates: those that the mechanism takes by keyword; none at scope ``layer``.
        sets: input tuples as `inputs.make` returns them; calls rotate over them, so that no call
            finds its own inputs in the cache of values.
        keywords: keyword arguments of every call, the same for all sets: a mask over padded keys.
        call: runs the mode once on the next input set, by `forward` or `step` directly. Only the
            first call goes through the module, which checks its inputs; compiled code checks
            nothing.
        eager_call: the same without the compiler; `call` itself unless the cell compiles.
        runner: the `forward` and the `step` that `call` runs.
        rotation: hands out the input sets of the next calls.
    """

    def __init__(
        self,
        cell: Cell,
        *,
        seq_len: int | None = None,
        library: ModuleType | None = None,
        like: Subject | None = None,
    ) -> None:
        if seq_len is not None:
            cell = replace(cell, workload=replace(cell.kernel, seq_len=seq_len))
        self.cell = cell
        self.library = library
        self.module = self._build(library)
        self.parameters = [p for p in self.module.parameters() if p.requires_grad]
        self.gates: DrawnGates = self._gates() if like is None else like.gates
        self.sets: list[tuple[Tensor, ...]] = [self.draw(0)] if like is None else like.sets
        self.rotation: _Rotation
        self._ready: dict[tuple[int, int], Any] = {}
        self.keywords = self._keywords()
        make = _MODES[cell.timed.mode]
        self.runner: Any = CheckedOnce(self.module)
        self.call = self.eager_call = make(self, self.runner)
        if cell.timed.compile == "inductor":
            self.runner = Compiled(self.module, cell)
            self.call = make(self, self.runner)

    def _build(self, library: ModuleType | None) -> nn.Module:
        return build_module(self.cell, library=library)

    def _gates(self) -> DrawnGates:
        return gates_of(self.module)

    @property
    def names(self) -> tuple[str, ...]:
        """An input set's tensors, as messages name them."""
        if self.cell.timed.scope != "core":
            return "x", "cotangent"
        return "q", "k", "v", *self.gates.names, "cotangent"

    def arguments(self, tensors: tuple[Tensor, ...]) -> tuple[tuple[Tensor, ...], dict[str, Any]]:
        """Positional arguments and gates of a call, of one input set."""
        names = self.gates.names
        if not names:
            return tensors[:-1], {}
        return tensors[:3], dict(zip(names, tensors[3:-1], strict=True))

    def run(self, module: Any, tensors: tuple[Tensor, ...]) -> Any:
        """Run a module on one input set, with its gates and under the mask."""
        given, gates = self.arguments(tensors)
        return module(*given, **gates, **self.keywords)

    def draw(self, index: int) -> tuple[Tensor, ...]:
        """Draw the input set of an index; its values are the same on every machine."""
        return inputs.make(
            self.cell.kernel,
            seed=_INPUT_SEED + index,
            dtype=getattr(torch, self.cell.kernel.dtype),
            device=device_named(self.cell.device).place,
            layout=layout_of(self.module),
            gates=self.gates,
        )

    def without_padding(self, out: Tensor) -> Tensor:
        """An output with zeros at padded queries, whose outputs do not count."""
        kept = inputs.kept_queries(self.cell.kernel, out.device) if self.keywords else None
        return out if kept is None else out.masked_fill(~kept, 0.0)

    def _keywords(self) -> dict[str, Tensor]:
        mask = inputs.key_mask(self.cell.kernel, device_named(self.cell.device).place)
        return {} if mask is None else {"key_mask": mask}

    def rotate(self) -> None:
        """Add input sets up to 4, or 64 MiB in all, so that calls do not repeat their inputs."""
        size = sum(t.numel() * t.element_size() for t in self.sets[0])
        while len(self.sets) < _NUM_SETS and size * (len(self.sets) + 1) <= _ROTATED_BYTES:
            self.sets.append(self.draw(len(self.sets)))

    @torch.no_grad()
    def refill(self, tensors: tuple[Tensor, ...], index: int) -> None:
        """Overwrite an input set in place with the values of `draw(index)`.

        Graphs and states that were made from old values are dropped, see `prepare`.
        """
        self._ready.clear()
        for place, values in zip(tensors, self.draw(index), strict=True):
            place.copy_(values)

    def renew(self, number: int, num_calls: int, *, whole: bool = True) -> None:
        """Overwrite the input sets of the next calls in place, at the cost of about a copy.

        Graphs and states that `prepare` made from the old values are made again. `number` is that
        of the round: each has its own values, the same for every mechanism. Sets beyond the next
        `num_calls` are left alone. Unless `whole`, only the last token of a decode is renewed, and
        its state stays.
        """
        is_token = self.cell.timed.mode == "decode" and not whole
        for index in self.rotation.coming(num_calls):
            tensors = self.sets[index]
            varying = self.varying(tensors)
            if is_token:
                varying = tuple(inputs.at_tokens(varying, slice(-1, None)))
            self._renew(varying, number * _NUM_SETS + index)
            if self.keywords:  # outputs of padded queries do not count
                tensors[-1].copy_(self.without_padding(tensors[-1]))
            if not is_token:
                self._ready.pop((id(tensors), id(self.runner)), None)
                self.ready(tensors, self.runner)

    def _renew(self, tensors: tuple[Tensor, ...], number: int) -> None:
        gates = self.gates.names
        place = 0
        for at, tensor in enumerate(tensors):
            if 3 <= at < 3 + len(gates):
                self.gates.renew(gates[at - 3], tensor, number)
                continue
            inputs.renew(tensor, number, place)
            place += 1  # so the cotangent's place is the same with gates and without

    def varying(self, tensors: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Tensors of an input set that a call reads; the cotangent only with a backward pass."""
        return tensors if self.cell.timed.has_backward else tensors[:-1]

    def prepare(self) -> None:
        """Make what calls need of each input set before they are timed.

        That is the graph for mode ``backward`` and the state for mode ``decode``; other modes need
        nothing.
        """
        for tensors in self.sets:
            self.ready(tensors, self.runner)

    def ready(self, tensors: tuple[Tensor, ...], runner: Any) -> Any:
        """Inputs prepared before the timed span of a call; see `prepare`."""
        make = _BEFORE.get(self.cell.timed.mode)
        if make is None:
            return None
        key = id(tensors), id(runner)
        if key not in self._ready:
            self._ready[key] = make(self, tensors, runner)
        return self._ready[key]

    def forward(self, tensors: tuple[Tensor, ...], runner: Any = None) -> Tensor:
        """The output for one input set; of a decode step, that of the last token.

        `runner` is run in place of the module.
        """
        return self.outputs(tensors, runner)[0]

    def outputs(self, tensors: tuple[Tensor, ...], runner: Any = None) -> tuple[Tensor, Any]:
        """The output of `forward`, and the state after it; None in modes without a state."""
        run: Any = self.module if runner is None else runner
        if self.cell.kernel.mode == "decode":
            return self.step(tensors, self.state_before_last(tensors), slice(-1, None), run)
        if self.cell.kernel.mode == "prefill":
            return self.step(tensors, self.empty_state(), slice(None), run)
        return self.run(run, tensors), None

    def gradients(self, out: Tensor, tensors: tuple[Tensor, ...]) -> tuple[Tensor | None, ...]:
        """Gradients of ``sum(out * cotangent)``: of the inputs first, then of the parameters."""
        cotangent = self.cotangent(out, tensors)
        return torch.autograd.grad(out, self.wanted(tensors), cotangent, allow_unused=True)

    def wanted(self, tensors: tuple[Tensor, ...]) -> list[Tensor]:
        """Tensors whose gradients are taken, for one input set."""
        return [*tensors[:-1], *self.parameters]

    def cotangent(self, out: Tensor, tensors: tuple[Tensor, ...]) -> Tensor:
        """Cotangent of an output: the weights of its elements when gradients are taken."""
        return tensors[-1]

    def empty_state(self) -> Any:
        """The state of a recurrent form before the first token."""
        module: Any = self.module
        w = self.cell.kernel
        dtype, device = getattr(torch, w.dtype), device_named(self.cell.device).place
        return module.init_state(w.batch_size, dtype=dtype, device=device)

    def step(
        self, tensors: tuple[Tensor, ...], state: Any, tokens: slice, stepper: Any = None
    ) -> tuple[Tensor, Any]:
        """Step over some tokens of an input set: their output, and the state after them.

        `stepper` has the `step` to run, in place of the module.
        """
        given, gates = self.arguments((*inputs.at_tokens(tensors[:-1], tokens), tensors[-1]))
        other: Any = self.module if stepper is None else stepper
        out, after = other.step(*given, state, **gates)
        return out, after

    @torch.no_grad()
    def state_before_last(self, tensors: tuple[Tensor, ...]) -> Any:
        """The state after all tokens but the last."""
        state = self.empty_state()
        if self.cell.kernel.seq_len == 1:
            return state
        return self.step(tensors, state, slice(None, -1))[1]

    def state_bytes(self) -> int | None:
        """Bytes of the state before the last token; None for modes without a state."""
        if self.cell.kernel.mode not in ("prefill", "decode"):
            return None
        leaves = tree_leaves(self.state_before_last(self.sets[0]))
        storages = [leaf.untyped_storage() for leaf in leaves if isinstance(leaf, Tensor)]
        return sum({storage.data_ptr(): storage.nbytes() for storage in storages}.values())


Call = Callable[[], Any]


def _forward(subject: Subject, module: Any) -> Call:
    take = _Rotation(subject)

    def call() -> Any:
        with torch.no_grad():
            return subject.run(module, take())

    return call


def _forward_backward(subject: Subject, module: Any) -> Call:
    take = _Rotation(subject)

    def call() -> Any:
        tensors = take()
        return subject.gradients(subject.run(module, tensors), tensors)

    return call


def _backward(subject: Subject, module: Any) -> Call:
    """The backward pass alone: each input set's graph is made once, and kept."""
    take = _Rotation(subject)

    def call() -> Any:
        tensors = take()
        out, wanted = subject.ready(tensors, module), subject.wanted(tensors)
        cotangent = subject.cotangent(out, tensors)
        return torch.autograd.grad(out, wanted, cotangent, allow_unused=True, retain_graph=True)

    return call


def _train_step(subject: Subject, module: Any) -> Call:
    take = _Rotation(subject)
    optimiser = torch.optim.AdamW(subject.parameters, lr=_LEARNING_RATE)

    def call() -> None:
        tensors = take()
        out = subject.run(module, tensors)
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

    def call() -> Any:
        tensors = take()
        state = subject.ready(tensors, module)
        with torch.no_grad():
            return subject.step(tensors, state, slice(-1, None), module)

    return call


class _Rotation:
    """Hands out the input sets in turn, again and again; `last` is the index of the last one."""

    def __init__(self, subject: Subject) -> None:
        self._subject = subject
        self.last = 0
        subject.rotation = self

    def coming(self, num_calls: int) -> list[int]:
        """Indices of the sets that the next calls take."""
        num_sets = len(self._subject.sets)
        return [(self.last + 1 + i) % num_sets for i in range(min(num_calls, num_sets))]

    def __call__(self) -> tuple[Tensor, ...]:
        sets = self._subject.sets
        self.last = (self.last + 1) % len(sets)
        return sets[self.last]


_MODES: dict[str, Callable[[Subject, Any], Call]] = {
    "forward": _forward,
    "backward": _backward,
    "forward_backward": _forward_backward,
    "train_step": _train_step,
    "prefill": _prefill,
    "decode": _decode,
}

_BEFORE: dict[str, Callable[[Subject, tuple[Tensor, ...], Any], Any]] = {
    "backward": lambda subject, tensors, runner: subject.run(runner, tensors),
    "decode": lambda subject, tensors, _: subject.state_before_last(tensors),
}
"""Mode -> function that makes what its calls need of an input set, see `Subject.prepare`."""
