"""Costs: the formulas for FLOPs and memory against what is counted and what is alive."""

from __future__ import annotations

import math
import weakref
from collections.abc import Sequence
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
    HEAD_DIM,
    NUM_HEADS,
    SEQ_LEN,
    Form,
    build,
    call_shape,
    inputs,
    needs_gradients,
)

Shape = tuple[int, int, int, int]
"""batch_size, seq_len, head_dim, value_dim."""
SHAPES: tuple[Shape, ...] = ((1, 12, 4, 4), (2, 64, 8, 6), (3, 300, 16, 16))
_ROUNDING = 0.01


def _cpu_flash(q: Any, k: Any, v: Any, *_: Any, out_shape: Any = None, **__: Any) -> int:
    return int(sdpa_flop_count(q, k, v))


_CPU_SDPA = {torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _cpu_flash}


def counted_flops(module: nn.Module, tensors: Sequence[Tensor]) -> int:
    """What torch's counter sees, with the fused CPU kernel that it does not know."""
    with FlopCounterMode(display=False, custom_mapping=_CPU_SDPA) as counter, torch.no_grad():
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
        form.name, Geometry(num_heads=NUM_HEADS, head_dim=HEAD_DIM, seq_len=SEQ_LEN)
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


def extra_elements_is_near_what_is_alive_at_the_peak(form: Form, mode: str) -> None:
    """Never far below, so that what cannot fit is refused; nor so far above that all is."""
    mechanism, tensors, call = _shaped(form, (1, 256, 32, 32))
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
    estimate = mechanism.extra_elements(call, backward=backward)
    one_input = tensors[0].numel()
    words = f"extra_elements says {estimate}, alive at the peak are {observed}"
    require(observed <= 1.4 * estimate + one_input, words)
    require(estimate <= 2.1 * observed + one_input, words)


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
    Check(
        claim="memory",
        run=extra_elements_is_near_what_is_alive_at_the_peak,
        applies=always,
        cases=(("forward",), ("forward_backward",)),
    ),
)
