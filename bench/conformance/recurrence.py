"""The recurrent form: a state and steps that equal the causal forward pass."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from bench.conformance.check import Check, require, require_close, require_refusal
from bench.conformance.forms import BATCH_SIZE, CPU, LONG, SEQ_LEN, Form, build, inputs

SPLITS = ([LONG], [1, LONG - 1], [140, 1, 1, 158], [LONG - 3, 1, 1, 1], [100, 128, 72])
_TOKENS = -2
_TOLERANCES = {
    (True, True): (1.3e-6, 1e-5),
    (True, False): (2e-2, 2e-3),
    (False, True): (1.3e-6, 1e-5),
    # A layer rounds between its projections, and a step may take them in another order.
    (False, False): (2e-2, 2e-2),
}
"""(core, float32) -> relative error, and absolute error in parts of the largest output."""


def _recurrent(form: Form) -> bool:
    return form.causal and form.can.recurrent


def steps_equal_the_causal_forward_however_the_prompt_is_split(
    form: Form, dtype: torch.dtype
) -> None:
    """The state may be wider than the dtype, so that nothing is lost in it."""
    for lengths in SPLITS:
        a_split_prompt_equals_the_whole(form, dtype, lengths)


def a_split_prompt_equals_the_whole(form: Form, dtype: torch.dtype, lengths: Sequence[int]) -> None:
    """A prompt that is given in parts of these lengths; property tests draw more of them."""
    mechanism = build(form, seq_len=sum(lengths), dtype=dtype)
    tensors = inputs(mechanism, dtype=dtype)
    expected = mechanism(*tensors)
    rtol, atol = _TOLERANCES[form.is_core, dtype == torch.float32]
    # Sums that nothing divides are large, and their rounding with them.
    atol *= max(1.0, expected.abs().max().item())
    out = _in_steps(mechanism, tensors, lengths)
    require(out.dtype == dtype, f"steps in {dtype} give {out.dtype}")
    require_close(out, expected, f"a prompt split as {lengths}", rtol=rtol, atol=atol)


def _in_steps(mechanism: Any, tensors: tuple[Tensor, ...], lengths: Sequence[int]) -> Tensor:
    state = mechanism.init_state(len(tensors[0]), dtype=tensors[0].dtype, device=CPU)
    outputs = []
    for part in zip(*(x.split(list(lengths), dim=_TOKENS) for x in tensors), strict=True):
        out, state = mechanism.step(*part, state)
        outputs.append(out)
    return torch.cat(outputs, dim=_TOKENS)


def token_by_token_equals_the_causal_forward(form: Form) -> None:
    """And a step leaves the state that it was given as it was, so that one can branch."""
    mechanism = build(form)
    tensors = inputs(mechanism)
    state = mechanism.init_state(BATCH_SIZE, dtype=torch.float32, device=CPU)
    outputs = []
    for i in range(SEQ_LEN):
        token = [x[..., i : i + 1, :] for x in tensors]
        before = state
        out, state = mechanism.step(*token, state)
        outputs.append(out)
        again, _ = mechanism.step(*token, before)
        require(torch.equal(again, out), "a step changed the state that it was given")
    require_close(torch.cat(outputs, dim=_TOKENS), mechanism(*tensors), "token by token")


def a_mechanism_without_a_recurrent_form_says_so(form: Form) -> None:
    """With a TypeError, as of a function that is not there."""
    mechanism = build(form)
    require_refusal(
        lambda: mechanism.init_state(BATCH_SIZE, dtype=torch.float32, device=CPU),
        TypeError,
        "no recurrent form",
    )


CHECKS = (
    Check(
        claim="recurrent",
        run=steps_equal_the_causal_forward_however_the_prompt_is_split,
        applies=_recurrent,
        cases=((torch.float32,), (torch.bfloat16,), (torch.float16,)),
    ),
    Check(claim="recurrent", run=token_by_token_equals_the_causal_forward, applies=_recurrent),
    Check(
        claim="recurrent",
        run=a_mechanism_without_a_recurrent_form_says_so,
        applies=lambda form: form.is_core and not form.can.recurrent,
        per_form=False,
        earns=False,
    ),
)
