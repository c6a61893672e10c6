"""A CUDA device gives what the CPU gives."""

from __future__ import annotations

import copy

import torch

from bench.measuring.device import device_named
from bench.measuring.device.cuda import Cuda
from bench.studies.conformance.check import check
from bench.studies.conformance.forms import LONG, Form, build, gradients, inputs
from bench.studies.conformance.tolerances import require_near, require_near_gradients


@check(Cuda.kind, lambda form: Cuda.kind in form.can.devices, needs_card=True)
def a_cuda_device_gives_what_the_cpu_gives(form: Form) -> None:
    """Output and gradients, in float64."""
    mechanism = build(form, seq_len=LONG, dtype=torch.float64)
    tensors = inputs(mechanism, dtype=torch.float64, requires_grad=True)
    expected = mechanism(*tensors)
    there = device_named(Cuda.kind).place
    moved = [x.detach().to(there).requires_grad_() for x in tensors]
    out = copy.deepcopy(mechanism).to(there)(*moved)
    require_near(out.cpu(), expected, "the output")
    found = [gradient.cpu() for gradient in gradients(out.cpu(), moved)]
    require_near_gradients(found, gradients(expected, tensors), "the output")
