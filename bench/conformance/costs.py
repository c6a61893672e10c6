"""Costs: the formulas for FLOPs against what is counted."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
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
)

Shape = tuple[int, int, int, int]
"""batch_size, seq_len, head_dim, value_dim."""
SHAPES: tuple[Shape, ...] = ((1, 12, 4, 4), (2, 64, 8, 6), (3, 300, 16, 16))
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
)
