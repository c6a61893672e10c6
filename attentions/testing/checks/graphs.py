"""Whole graphs: `torch.compile(fullgraph=True)`, and `torch.export` for any number of tokens."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import torch
from torch import Tensor

from ..check import check
from ..forms import LONG, Form, build, gradients, has_gradients, inputs
from ..tolerances import require_near, require_near_gradients

BACKEND = "aot_eager"
"""Traces forward and backward as a compiler would get them, and runs the graphs as they are: what
is tested is whether the code is one graph, not whether a compiler is right."""
COMPILED_LEN = 140
"""A whole chunk of 128 and a part; a loop over chunks is unrolled, so that more would take long."""
OTHER_LENGTHS = (12, COMPILED_LEN)
_TOKENS = -2


def _exports(form: Form) -> bool:
    return ("causal" if form.causal else "bidirectional") in form.can.exports


@check("compile", lambda form: form.can.compiles)
def compile_takes_it_as_one_graph(form: Form) -> None:
    """Outputs and gradients equal those without a compiler."""
    mechanism = build(form, seq_len=COMPILED_LEN)
    trains = has_gradients(mechanism)
    tensors = inputs(mechanism, requires_grad=trains)
    _forget_graphs()
    try:
        compile_: Callable[..., Callable[..., Tensor]] = torch.compile
        compiled = compile_(mechanism, fullgraph=True, backend=BACKEND, dynamic=False)
        out, expected = compiled(*tensors), mechanism(*tensors)
        require_near(out, expected, "the compiled output")
        if trains:
            found, wanted = gradients(out, tensors), gradients(expected, tensors)
            require_near_gradients(found, wanted, "the compiled output")
    finally:
        _forget_graphs()


def _forget_graphs() -> None:
    reset: Callable[[], None] = torch.compiler.reset
    reset()


@check("export", _exports)
def export_takes_it_with_a_dynamic_number_of_tokens(form: Form) -> None:
    """Exported at one length, right at others."""
    mechanism = build(form, seq_len=LONG)
    tensors = inputs(mechanism)
    length = torch.export.Dim("length", min=2, max=LONG)
    shapes = tuple({x.dim() + _TOKENS: length} for x in tensors)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        exported = torch.export.export(mechanism, tensors, dynamic_shapes=shapes).module()
    for seq_len in OTHER_LENGTHS:
        fewer = [x[..., :seq_len, :].contiguous() for x in tensors]
        require_near(exported(*fewer), mechanism(*fewer), "the exported output")
