"""The recurrent form: a state and steps that equal the causal forward pass."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..check import check, require, require_refusal
from ..forms import BATCH_SIZE, CPU, LONG, SEQ_LEN, Form, build, inputs
from ..tolerances import require_near

ROWS = 3
PROMPT, DECODED = 5, 125
"""Tokens given at once, then one by one: beyond a chunk of 64 and one of 128."""
SPLITS = ([LONG], [1, LONG - 1], [140, 1, 1, 158], [LONG - 3, 1, 1, 1], [100, 128, 72])
_TOKENS = -2
_TAKEN_AGAIN = 4
"""Steps that are repeated: the prompt and the tokens after it; later steps are like these."""


def _recurrent(form: Form) -> bool:
    return form.causal and form.can.recurrent


@check(
    "recurrent",
    _recurrent,
    cases=((torch.float64,), (torch.float32,), (torch.bfloat16,), (torch.float16,)),
)
def steps_equal_the_causal_forward_however_the_prompt_is_split(
    form: Form, dtype: torch.dtype
) -> None:
    """The state may be wider than the dtype, so that nothing is lost in it."""
    # In float64 one split is enough: any of them shows whether a state loses something.
    for lengths in SPLITS[2:3] if dtype == torch.float64 else SPLITS:
        a_split_prompt_equals_the_whole(form, dtype, lengths)


def a_split_prompt_equals_the_whole(form: Form, dtype: torch.dtype, lengths: Sequence[int]) -> None:
    """A prompt that is given in parts of these lengths."""
    mechanism = build(form, seq_len=sum(lengths), dtype=dtype)
    tensors = inputs(mechanism, dtype=dtype, batch_size=ROWS)
    expected = mechanism(*tensors)
    out = _in_steps(mechanism, tensors, lengths)
    require(out.dtype == dtype, f"steps in {dtype} give {out.dtype}")
    require_near(out, expected, f"the output of a prompt split as {lengths}")


def _in_steps(mechanism: Any, tensors: tuple[Tensor, ...], lengths: Sequence[int]) -> Tensor:
    state = mechanism.init_state(len(tensors[0]), dtype=tensors[0].dtype, device=CPU)
    outputs = []
    for part in zip(*(x.split(list(lengths), dim=_TOKENS) for x in tensors), strict=True):
        out, state = mechanism.step(*part, state)
        outputs.append(out)
    return torch.cat(outputs, dim=_TOKENS)


@check("recurrent", _recurrent)
def token_by_token_equals_the_causal_forward(form: Form) -> None:
    """A prompt, then tokens, of two sequences in alternation; a repeated step gives the same.

    A sequence must be in its state alone: anything kept in the module would leak to the other one.
    """
    dtype = torch.float64 if "float64" in form.can.dtypes else torch.float32
    mechanism = build(form, seq_len=PROMPT + DECODED, dtype=dtype)
    sequences = [inputs(mechanism, dtype=dtype, batch_size=1) for _ in range(2)]
    given = [[x.clone() for x in tensors] for tensors in sequences]
    states = [mechanism.init_state(1, dtype=dtype, device=CPU) for _ in sequences]
    outputs: list[list[Tensor]] = [[] for _ in sequences]
    parts = [
        list(zip(*(x.split([PROMPT] + [1] * DECODED, dim=_TOKENS) for x in tensors), strict=True))
        for tensors in sequences
    ]
    for turn in range(1 + DECODED):
        for which, tokens in enumerate(part[turn] for part in parts):
            before = states[which]
            out, states[which] = mechanism.step(*tokens, before)
            outputs[which].append(out)
            if turn < _TAKEN_AGAIN:
                again, states[which] = mechanism.step(*tokens, before)
                require(torch.equal(again, out), "a step that is taken again gives another output")
    for tensors, before_steps, outs in zip(sequences, given, outputs, strict=True):
        for x, y in zip(tensors, before_steps, strict=True):
            require(torch.equal(x, y), "a step modified its tokens")
        require_near(torch.cat(outs, dim=_TOKENS), mechanism(*tensors), "the output of tokens")


@check("recurrent", lambda form: form.is_core and _recurrent(form))
def steps_take_shared_heads_of_keys(form: Form) -> None:
    """Two heads of keys and values for four of queries, in the state as well."""
    mechanism = build(form, num_heads=4, num_kv_heads=2)
    tensors = inputs(mechanism)
    out = _in_steps(mechanism, tensors, [PROMPT] + [1] * (SEQ_LEN - PROMPT))
    require_near(out, mechanism(*tensors), "the output of steps with shared heads")


@check(
    "recurrent", lambda form: form.is_core and not form.can.recurrent, per_form=False, earns=False
)
def a_mechanism_without_a_recurrent_form_says_so(form: Form) -> None:
    """`init_state` raises a TypeError."""
    mechanism = build(form)
    require_refusal(
        lambda: mechanism.init_state(BATCH_SIZE, dtype=torch.float32, device=CPU),
        TypeError,
        "no recurrent form",
    )
