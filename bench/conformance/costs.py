"""Costs: the formulas for FLOPs and memory against what is counted and what is alive."""

from __future__ import annotations

import math
import weakref
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

from attentions import Geometry, build_layer
from attentions.base import CallShape
from bench.conformance.check import Check, always, require
from bench.conformance.forms import (
    BATCH_SIZE,
    CPU,
    HEAD_DIM,
    NUM_HEADS,
    SEQ_LEN,
    SETTINGS,
    Form,
    build,
    call_shape,
    inputs,
    needs_gradients,
)

Shape = tuple[int, int, int, int]
"""batch_size, seq_len, head_dim, value_dim."""
SHAPES: tuple[Shape, ...] = ((1, 12, 4, 4), (2, 64, 8, 6), (3, 300, 16, 16))
MEMORY_SHAPE: Shape = (1, 256, 32, 32)
FAR_SHAPE: Shape = (1, 700, 32, 32)
_TILES = 8
_ROUNDING = 0.01
_STEP_SHARE = 0.85
"""A step may meet its own token as a chunk of one, beside the state."""


def _cpu_flash(q: Any, k: Any, v: Any, *_: Any, out_shape: Any = None, **__: Any) -> int:
    return int(sdpa_flop_count(q, k, v))


_CPU_SDPA = {torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _cpu_flash}


def _counter() -> FlopCounterMode:
    return FlopCounterMode(display=False, custom_mapping=_CPU_SDPA)


def counted_flops(module: nn.Module, tensors: Sequence[Tensor]) -> int:
    """What torch's counter sees, with the fused CPU kernel that it does not know."""
    with _counter() as counter, torch.no_grad():
        module(*tensors)
    return int(counter.get_total_flops())


def _shaped(form: Form, shape: Shape) -> tuple[Any, tuple[Tensor, ...], CallShape]:
    batch_size, seq_len, head_dim, value_dim = shape
    mechanism = build(form, seq_len=seq_len, head_dim=head_dim, value_dim=value_dim)
    tensors = inputs(mechanism, batch_size=batch_size)
    return mechanism, tensors, call_shape(mechanism, tensors)


def _require_counted(module: Any, call: CallShape, counted: int) -> None:
    said = module.executed_flops(call)
    is_near = math.isclose(said, counted, rel_tol=_ROUNDING, abs_tol=1e-12)
    require(is_near, f"executed_flops says {said}, torch counts {counted}")
    _require_no_more_than_executed(module, call)


def _require_no_more_than_executed(module: Any, call: CallShape) -> None:
    needed, executed = module.flops(call), module.executed_flops(call)
    require(needed <= executed, f"flops says {needed}, executed_flops {executed}")


def flops_equal_torchs_counter(form: Form, shape: Shape) -> None:
    """At three shapes."""
    mechanism, tensors, call = _shaped(form, shape)
    _require_counted(mechanism, call, counted_flops(mechanism, tensors))


def flops_equal_torchs_counter_for_other_numbers_of_keys(form: Form) -> None:
    """More keys than queries; to the FLOP."""
    mechanism = build(form)
    tensors = inputs(mechanism, key_len=40)
    call, counted = call_shape(mechanism, tensors), counted_flops(mechanism, tensors)
    said = mechanism.executed_flops(call)
    require(said == counted, f"executed_flops says {said}, torch counts {counted}")
    _require_no_more_than_executed(mechanism, call)


def flops_of_a_layer_equal_torchs_counter(form: Form) -> None:
    """Projections and core together."""
    build(form)  # says what is missing, if something is
    layer = build_layer(
        form.name,
        Geometry(num_heads=NUM_HEADS, head_dim=HEAD_DIM, seq_len=SEQ_LEN),
        **SETTINGS.get(form.name, {}),
    )
    tensors = (torch.randn(BATCH_SIZE, SEQ_LEN, NUM_HEADS * HEAD_DIM),)
    call = CallShape(
        batch_size=BATCH_SIZE,
        num_heads=NUM_HEADS,
        query_len=SEQ_LEN,
        key_len=SEQ_LEN,
        head_dim=HEAD_DIM,
        value_dim=HEAD_DIM,
    )
    said, counted = layer.executed_flops(call), counted_flops(layer, tensors)
    is_near = math.isclose(said, counted, rel_tol=_ROUNDING)
    require(is_near, f"executed_flops says {said}, torch counts {counted}")


def a_causal_form_executes_what_it_says_and_needs_no_more(form: Form, shape: Shape) -> None:
    """The counter takes a fused causal kernel for a full one, so that one may count more."""
    mechanism, tensors, call = _shaped(form, shape)
    counted = counted_flops(mechanism, tensors)
    if form.name == "softmax":
        said = mechanism.executed_flops(call)
        require(said <= counted, f"executed_flops says {said}, torch counts only {counted}")
        _require_no_more_than_executed(mechanism, call)
    else:
        _require_counted(mechanism, call, counted)


def flops_grow_with_batch_and_heads(form: Form) -> None:
    """Each row, and each head of a core, is another time the same work."""
    mechanism, _, call = _shaped(form, SHAPES[1])
    more = [("batch", replace(call, batch_size=3 * call.batch_size))]
    if form.is_core:
        more.append(("heads", replace(call, num_heads=3 * call.num_heads)))
    for count in (mechanism.flops, mechanism.executed_flops):
        for what, larger in more:
            got, want = count(larger), 3 * count(call)
            is_near = math.isclose(got, want, rel_tol=_ROUNDING, abs_tol=1e-12)
            require(is_near, f"{count.__name__} says {got} for 3 times the {what}, not {want}")


def flops_of_a_step_are_near_torchs_counter(form: Form) -> None:
    """After a prompt; what a step pads to a chunk is not its mathematics."""
    mechanism, tensors, call = _shaped(form, SHAPES[2])
    past = SEQ_LEN
    state = mechanism.init_state(call.batch_size, dtype=torch.float32, device=CPU)
    with torch.no_grad():
        _, state = mechanism.step(*(x[..., :past, :] for x in tensors), state)
    token = [x[..., past : past + 1, :] for x in tensors]
    with _counter() as counter, torch.no_grad():
        mechanism.step(*token, state)
    counted = int(counter.get_total_flops())
    said = mechanism.decode_flops(replace(call, query_len=1, key_len=past + 1))
    is_near = _STEP_SHARE * counted <= said <= (1 + _ROUNDING) * counted
    require(is_near, f"decode_flops says {said}, torch counts {counted}")


def flops_of_all_steps_are_those_of_the_whole(form: Form) -> None:
    """So that what a causal call needs is proven where more is executed, such as whole chunks."""
    mechanism, _, call = _shaped(form, SHAPES[1])
    lengths = range(1, call.query_len + 1)
    steps = sum(mechanism.decode_flops(replace(call, query_len=1, key_len=n)) for n in lengths)
    needed = mechanism.flops(call)
    is_near = math.isclose(needed, steps, rel_tol=_ROUNDING, abs_tol=1e-12)
    require(is_near, f"flops says {needed}, decode_flops of all steps {steps}")


class LiveElements(TorchDispatchMode):
    """The most bytes alive at once in tensors that operators returned, those of ``known`` aside."""

    def __init__(self, known: Sequence[Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.known = {x.untyped_storage()._cdata for x in known}
        self.alive: dict[int, int] = {}
        self.total, self.peak = 0, 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operator and look at what it returned."""
        out = func(*args, **(kwargs or {}))
        for x in tree_leaves(out):
            if isinstance(x, Tensor):
                self._see(x.untyped_storage())
        return out

    def _see(self, storage: Any) -> None:
        key = storage._cdata
        if key in self.known or key in self.alive:
            return
        self.alive[key] = storage.nbytes()
        self.total += self.alive[key]
        self.peak = max(self.peak, self.total)
        weakref.finalize(storage, self._forget, key)

    def _forget(self, key: int) -> None:
        self.total -= self.alive.pop(key)


def extra_elements_is_near_what_is_alive_at_the_peak(form: Form, mode: str, shape: Shape) -> None:
    """Never far below, so that what cannot fit is refused; nor so far above that all is."""
    observed, estimate, one_input = _alive(form, mode, shape)
    words = f"extra_elements says {estimate}, alive at the peak are {observed}"
    require(observed <= 1.4 * estimate + one_input, words)
    require(estimate <= 2.1 * observed + one_input, words)


def extra_elements_grows_as_what_is_alive(form: Form, mode: str) -> None:
    """At a greater length: a formula that is right at one may be of another power.

    Tiles have a size of their own, so that a few inputs' worth may be too much.
    """
    observed, estimate, one_input = _alive(form, mode, FAR_SHAPE)
    words = f"extra_elements says {estimate}, alive at the peak are {observed}"
    require(observed <= 1.5 * estimate + one_input, words)
    require(estimate <= 2.1 * observed + _TILES * one_input, words)


def _alive(form: Form, mode: str, shape: Shape) -> tuple[int, int, int]:
    """Elements alive at the peak, the estimate of them, and elements of one input."""
    mechanism, tensors, call = _shaped(form, shape)
    backward = mode == "forward_backward"
    if backward:
        needs_gradients(mechanism)
    tensors = tuple(x.requires_grad_(backward) for x in tensors)
    out_elements = tensors[-1].numel()
    cotangent = torch.randn(tensors[-1].shape)
    known = [*tensors, *mechanism.parameters(), *mechanism.buffers(), cotangent]
    with LiveElements(known) as live, torch.set_grad_enabled(backward):
        out = mechanism(*tensors)
        if backward:
            out.backward(cotangent)
            out_elements += sum(x.numel() for x in tensors)
    observed = max(0, live.peak // 4 - out_elements)
    return observed, mechanism.extra_elements(call, backward=backward), tensors[0].numel()


_MODES = ("forward", "forward_backward")


def _steps(form: Form) -> bool:
    return form.causal and form.can.recurrent


_BY_SHAPE = tuple((shape,) for shape in SHAPES)

CHECKS = (
    Check(
        claim="flops",
        run=flops_equal_torchs_counter,
        applies=lambda form: not form.causal,
        cases=_BY_SHAPE,
    ),
    Check(
        claim="flops",
        run=flops_equal_torchs_counter_for_other_numbers_of_keys,
        applies=lambda form: form.is_core and not form.causal and form.can.cross,
    ),
    Check(
        claim="flops",
        run=flops_of_a_layer_equal_torchs_counter,
        applies=lambda form: not form.causal,
    ),
    Check(
        claim="flops",
        run=a_causal_form_executes_what_it_says_and_needs_no_more,
        applies=lambda form: form.is_core and form.causal,
        cases=_BY_SHAPE,
    ),
    Check(claim="flops", run=flops_grow_with_batch_and_heads, applies=always),
    Check(claim="flops", run=flops_of_a_step_are_near_torchs_counter, applies=_steps),
    Check(
        claim="flops",
        run=flops_of_all_steps_are_those_of_the_whole,
        applies=lambda form: form.is_core and _steps(form),
    ),
    Check(
        claim="memory",
        run=extra_elements_is_near_what_is_alive_at_the_peak,
        applies=always,
        cases=(
            *((mode, MEMORY_SHAPE) for mode in _MODES),
            ("forward", (2, *MEMORY_SHAPE[1:])),
        ),
    ),
    Check(
        claim="memory",
        run=extra_elements_grows_as_what_is_alive,
        applies=always,
        cases=tuple((mode,) for mode in _MODES),
    ),
)
