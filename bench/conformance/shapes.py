"""What comes out has the right shape and dtype, and what went in is as it was."""

from __future__ import annotations

import torch

from bench.conformance.check import Check, Untestable, always, require, require_close
from bench.conformance.forms import (
    HEAD_DIM,
    NUM_HEADS,
    VALUE_DIM,
    Form,
    build,
    dtypes_of,
    gradients,
    has_gradients,
    inputs,
)

Shape = tuple[int, int, int, int, int]
"""batch_size, num_heads, seq_len, head_dim, value_dim."""

AWKWARD: tuple[Shape, ...] = (
    (1, 1, 1, 4, 4),  # one token
    (2, 1, 7, 5, 3),  # one head, and widths that are no power of two
    (1, 3, 61, 12, 20),  # a prime number of tokens, so a grid of one row
    (3, 2, 131, 6, 6),  # a whole chunk of 128 and a part, or two of 64 and a part
)
"""Shapes that nothing divides; property tests draw more of them."""


def shape_and_dtype_are_kept_in_every_claimed_dtype(form: Form) -> None:
    """Also finite."""
    for dtype in dtypes_of(form):
        mechanism = build(form, dtype=dtype)
        tensors = inputs(mechanism, dtype=dtype)
        out = mechanism(*tensors)
        width = VALUE_DIM if form.is_core else NUM_HEADS * HEAD_DIM
        expected = (*tensors[0].shape[:-1], width)
        require(out.shape == expected, f"{dtype}: shape {tuple(out.shape)}, not {expected}")
        require(out.dtype == dtype, f"{dtype} inputs give {out.dtype}")
        require(out.isfinite().all(), f"{dtype}: not finite on unit-normal inputs")


def inputs_are_not_modified_and_the_output_is_not_one_of_them(form: Form) -> None:
    """Writing into the output must not reach an input either."""
    mechanism = build(form)
    tensors = inputs(mechanism)
    before = [x.clone() for x in tensors]
    mechanism(*tensors).fill_(7.0)
    for x, y in zip(tensors, before, strict=True):
        require(torch.equal(x, y), "an input was modified, or the output shares its memory")


def strides_do_not_matter(form: Form) -> None:
    """The (B, H, N, D) strides of a (B, N, H, D) tensor, as projections leave it."""
    mechanism = build(form)
    tensors = inputs(mechanism)
    strided = [x.transpose(-3, -2).contiguous().transpose(-3, -2) for x in tensors]
    require_close(mechanism(*strided), mechanism(*tensors), "other strides, another output")


def any_shape_gives_what_the_slow_form_gives(form: Form, shape: Shape) -> None:
    """In float64, and with finite gradients; a shape may be refused, if the refusal says why."""
    batch_size, num_heads, seq_len, head_dim, value_dim = shape
    sizes = {
        "num_heads": num_heads,
        "seq_len": seq_len,
        "head_dim": head_dim,
        "value_dim": value_dim,
    }
    try:
        mechanism = build(form, **sizes, dtype=torch.float64)
    except ValueError as error:
        named = any(size in str(error) for size in sizes) and any(map(str.isdigit, str(error)))
        require(named, f"is refused without naming a size and its value: {error}")
        raise Untestable(f"refused: {error}") from error
    needs_grad = has_gradients(mechanism)
    tensors = inputs(
        mechanism, batch_size=batch_size, dtype=torch.float64, requires_grad=needs_grad
    )
    out, expected = mechanism(*tensors), mechanism.reference(*tensors)
    if expected is None:
        expected = torch.cat([mechanism(*(x[i : i + 1] for x in tensors)) for i in range(len(out))])
    require_close(out, expected, f"at {shape}", rtol=1e-8, atol=1e-9)
    if needs_grad:
        for gradient in gradients(out, tensors):
            require(gradient.isfinite().all(), f"at {shape}: a gradient is not finite")


CHECKS = (
    Check(claim="shape", run=shape_and_dtype_are_kept_in_every_claimed_dtype, applies=always),
    Check(
        claim="shape",
        run=inputs_are_not_modified_and_the_output_is_not_one_of_them,
        applies=always,
    ),
    Check(claim="shape", run=strides_do_not_matter, applies=always),
    Check(
        claim="any_shape",
        run=any_shape_gives_what_the_slow_form_gives,
        applies=always,
        cases=tuple((shape,) for shape in AWKWARD),
    ),
)
