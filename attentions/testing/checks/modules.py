"""Behaviour as a torch module: state, copies, seeds, other devices and other modes."""

from __future__ import annotations

import copy

import torch
from torch import Tensor

from ..check import Untestable, card, check, require
from ..forms import (
    LONG,
    SEQ_LEN,
    Form,
    build,
    gradients,
    has_gradients,
    inputs,
)
from ..tolerances import AUTOCAST, require_near, require_near_gradients


@check("meta")
def shapes_can_be_followed_on_the_meta_device(form: Form) -> None:
    """Meta tensors give a model's size before its memory is allocated."""
    mechanism = build(form, seq_len=LONG)
    tensors = inputs(mechanism)
    shape = mechanism(*tensors).shape
    out = mechanism.to("meta")(*(x.to("meta") for x in tensors))
    require(out.device.type == "meta", f"the output is on {out.device}")
    require(out.shape == shape, f"shape {tuple(out.shape)}, on a CPU {tuple(shape)}")


@check("cuda", lambda form: "cuda" in form.can.devices, needs_card=True)
def a_cuda_device_gives_what_the_cpu_gives(form: Form) -> None:
    """Output and gradients, in float64."""
    mechanism = build(form, seq_len=LONG, dtype=torch.float64)
    tensors = inputs(mechanism, dtype=torch.float64, requires_grad=True)
    expected = mechanism(*tensors)
    there = card()
    moved = [x.detach().to(there).requires_grad_() for x in tensors]
    out = copy.deepcopy(mechanism).to(there)(*moved)
    require_near(out.cpu(), expected, "the output")
    found = [gradient.cpu() for gradient in gradients(out.cpu(), moved)]
    require_near_gradients(found, gradients(expected, tensors), "the output")


@check("state_dict")
def the_state_dict_carries_everything_over(form: Form) -> None:
    """Another instance, built with the same arguments, gives the same output after loading it."""
    mechanism, other = build(form), build(form)
    tensors = inputs(mechanism)
    if list(mechanism.parameters()):
        is_same = torch.equal(other(*tensors), mechanism(*tensors))
        require(not is_same, "other weights give the same output")
    other.load_state_dict(mechanism.state_dict())
    require(torch.equal(other(*tensors), mechanism(*tensors)), "the outputs still differ")


@check("deterministic", cases=((SEQ_LEN,), (LONG,)))
def the_same_seed_gives_the_same_mechanism_and_output(form: Form, seq_len: int) -> None:
    """To the bit, and so does a second call; the same gradients too."""
    outputs: list[list[Tensor]] = []
    for _ in range(2):
        torch.manual_seed(3)
        mechanism = build(form, seq_len=seq_len)
        trains = seq_len == SEQ_LEN and has_gradients(mechanism)
        tensors = inputs(mechanism, requires_grad=trains)
        out = mechanism(*tensors)
        slopes = gradients(out, tensors) if trains else []
        outputs.append([out, *slopes])
        require(torch.equal(mechanism(*tensors), out), "a second call differs")
    is_same = all(torch.equal(one, other) for one, other in zip(*outputs, strict=True))
    require(is_same, "the same seed gives another output or gradient")


@check("deterministic")
def seeds_are_left_to_the_caller(form: Form) -> None:
    """A call draws nothing from torch's generator, and nothing seeds it."""
    after = []
    for seed in (3, 4):
        torch.manual_seed(seed)
        build(form)
        after.append(torch.get_rng_state())
    require(not torch.equal(*after), "another seed is lost when it is built: something seeds again")
    for seq_len in (SEQ_LEN, LONG):
        mechanism = build(form, seq_len=seq_len)
        tensors = inputs(mechanism)
        before = torch.get_rng_state()
        mechanism(*tensors)
        is_same = torch.equal(torch.get_rng_state(), before)
        require(is_same, "a call moves torch's generator of random numbers")


@check("state_dict")
def a_copy_is_as_good_as_the_original(form: Form) -> None:
    """A deep copy gives the same output, to the bit."""
    mechanism = build(form)
    tensors = inputs(mechanism)
    is_same = torch.equal(copy.deepcopy(mechanism)(*tensors), mechanism(*tensors))
    require(is_same, "a copy gives another output")


@check("inference")
def a_call_under_inference_mode_leaves_training_possible(form: Form) -> None:
    """No tensor that was created in that mode may be kept."""
    mechanism = build(form)
    with torch.inference_mode():
        mechanism(*inputs(mechanism))
    tensors = inputs(mechanism, requires_grad=True)
    require(bool(gradients(mechanism(*tensors), tensors)), "there is no gradient")


@check("autocast")
def it_runs_under_autocast(form: Form) -> None:
    """Under bfloat16 autocast, outputs and gradients are near those of a plain float32 call."""
    if "bfloat16" not in form.can.dtypes or "float32" not in form.can.dtypes:
        raise Untestable("does not claim both float32 and bfloat16")
    mechanism = build(form)
    tensors = inputs(mechanism, requires_grad=has_gradients(mechanism))
    learned = [p for p in mechanism.parameters() if p.requires_grad]
    expected = mechanism(*tensors)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = mechanism(*tensors)
        halved = mechanism(*(x.bfloat16() for x in tensors))  # as a Linear under autocast gives
    for got in (out, halved):
        require_near(got, expected, "the output under autocast", AUTOCAST)
    if not has_gradients(mechanism):
        return
    wanted = [*tensors, *learned]
    exact = gradients(expected, wanted)
    # Some are zero but for rounding, such as that of a constant that cancels in a softmax.
    largest = max(gradient.abs().max() for gradient in exact)
    for gradient, want in zip(gradients(out, wanted), exact, strict=True):
        require(gradient.isfinite().all(), "a gradient is not finite")
        require(gradient.dtype == torch.float32, f"a gradient is {gradient.dtype}")
        error = (gradient - want).abs().max() / largest
        require(error < AUTOCAST.gradient, f"off by {error:.2g} of the largest gradient")
