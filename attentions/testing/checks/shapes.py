"""Shapes: outputs have the right shape and dtype, and inputs stay as they were."""

from __future__ import annotations

from contextlib import suppress

import torch

from ..check import Untestable, check, require
from ..forms import (
    HEAD_DIM,
    LONG,
    MEDIUM,
    NUM_HEADS,
    SEQ_LEN,
    VALUE_DIM,
    Form,
    build,
    dtypes_of,
    gradients,
    has_gradients,
    inputs,
)
from ..tolerances import require_near

Shape = tuple[int, int, int, int, int]
"""batch_size, num_heads, seq_len, head_dim, value_dim."""

AWKWARD: tuple[Shape, ...] = (
    (1, 1, 1, 4, 4),  # one token
    (2, 1, 7, 5, 3),  # one head, and widths that are not powers of two
    (1, 3, 61, 12, 20),  # a prime number of tokens, so a grid of one row
    (3, 2, 131, 6, 6),  # a whole chunk of 128 and a part, or two of 64 and a part
    (1, 2, 128, 24, 96),  # whole chunks and nothing else
    (2, 2, 20, 96, 24),  # heads wider than most kernels are made for
)
"""Shapes that no chunk size divides, and one of whole chunks."""
DRAWN = 12
"""Number of further shapes that are drawn."""


@check("shape")
def shape_and_dtype_are_kept_in_every_claimed_dtype(form: Form) -> None:
    """Outputs are finite as well."""
    for dtype in dtypes_of(form):
        mechanism = build(form, dtype=dtype)
        tensors = inputs(mechanism, dtype=dtype)
        out = mechanism(*tensors)
        width = VALUE_DIM if form.is_core else NUM_HEADS * HEAD_DIM
        expected = (*tensors[0].shape[:-1], width)
        require(out.shape == expected, f"{dtype}: shape {tuple(out.shape)}, not {expected}")
        require(out.dtype == dtype, f"{dtype} inputs give {out.dtype}")
        require(out.isfinite().all(), f"{dtype}: not finite on unit-normal inputs")


@check("shape")
def inputs_are_not_modified_and_the_output_is_not_one_of_them(form: Form) -> None:
    """In every dtype, forward and backward; writing into the output must not reach an input."""
    cases = [(dtype, SEQ_LEN) for dtype in dtypes_of(form)]
    for dtype, seq_len in (*cases, (cases[0][0], MEDIUM)):
        mechanism = build(form, seq_len=seq_len, dtype=dtype)
        tensors = inputs(mechanism, dtype=dtype, requires_grad=has_gradients(mechanism))
        before = [x.detach().clone() for x in tensors]
        out = mechanism(*tensors)
        if has_gradients(mechanism):
            cotangent = torch.randn_like(out)
            given = cotangent.clone()
            gradients(out, tensors, cotangent)
            require(torch.equal(cotangent, given), f"{dtype}: a gradient is modified")
        out.detach().fill_(7.0)
        for x, y in zip(tensors, before, strict=True):
            words = f"{dtype}: an input was modified, or the output shares its memory"
            require(torch.equal(x, y), words)


@check("shape")
def a_later_call_leaves_earlier_outputs_alone(form: Form) -> None:
    """Outputs do not share a buffer that the next call overwrites."""
    mechanism = build(form)
    first = mechanism(*inputs(mechanism))
    before = first.clone()
    mechanism(*inputs(mechanism))
    require(torch.equal(first, before), "a second call overwrites what the first gave")


@check("shape")
def strides_do_not_matter(form: Form) -> None:
    """The (B, H, N, D) strides of a (B, N, H, D) tensor, as projections leave it."""
    for dtype in dtypes_of(form):
        mechanism = build(form, dtype=dtype)
        tensors = inputs(mechanism, dtype=dtype)
        strided = [x.transpose(-3, -2).contiguous().transpose(-3, -2) for x in tensors]
        require_near(mechanism(*strided), mechanism(*tensors), "the output of other strides")


@check("any_shape", cases=tuple((shape,) for shape in AWKWARD))
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
    owned = {x.untyped_storage().data_ptr() for x in tensors}
    require(out.untyped_storage().data_ptr() not in owned, "the output shares an input's memory")
    if expected is None:
        expected = torch.cat([mechanism(*(x[i : i + 1] for x in tensors)) for i in range(len(out))])
    require_near(out, expected, "the output")
    if needs_grad:
        for gradient in gradients(out, tensors):
            require(gradient.isfinite().all(), f"at {shape}: a gradient is not finite")


@check("any_shape")
def shapes_that_are_drawn_give_what_the_slow_form_gives(form: Form) -> None:
    """Shapes drawn by hypothesis, which reduces one that fails; the same ones in every run."""
    try:
        from hypothesis import HealthCheck, given, settings, strategies
    except ImportError as error:
        raise Untestable("hypothesis is not installed: pip install 'attnbench[testing]'") from error
    # Of one token or one channel, the only weight may be as small as the rounding of its terms.
    bounds = ((1, 3), (1, 3), (2, 200), (2, 40), (1, 40))
    shapes = strategies.tuples(*(strategies.integers(*each) for each in bounds))

    @settings(
        max_examples=DRAWN,
        derandomize=True,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(shapes)
    def equals_the_slow_form(shape: Shape) -> None:
        torch.manual_seed(0)
        with suppress(Untestable):  # a shape may be refused
            any_shape_gives_what_the_slow_form_gives(form, shape)

    build(form, dtype=torch.float64)  # Untestable where no shape can be tested
    equals_the_slow_form()


@check("any_shape", lambda form: not form.can.needs_grid)
def fewer_tokens_than_it_was_built_for_give_what_the_slow_form_gives(form: Form) -> None:
    """`seq_len` is an upper bound, except on a grid; fewer may be refused if the error says so."""
    mechanism = build(form, seq_len=LONG, dtype=torch.float64)
    tensors = inputs(build(form, dtype=torch.float64), dtype=torch.float64)
    try:
        out = mechanism(*tensors)
    except ValueError as error:
        require(f"{SEQ_LEN} " in str(error), f"is refused without saying {SEQ_LEN}: {error}")
        raise Untestable(f"refused: {error}") from error
    expected = mechanism.reference(*tensors)
    if expected is not None:
        require_near(out, expected, f"the output of {SEQ_LEN} of {LONG} tokens")


@check("any_shape", lambda form: form.is_core)
def shared_heads_of_keys_give_what_the_slow_form_gives(form: Form) -> None:
    """Two heads of keys and values for four of queries, in float64."""
    mechanism = build(form, num_heads=4, num_kv_heads=2, dtype=torch.float64)
    tensors = inputs(mechanism, dtype=torch.float64)
    out, expected = mechanism(*tensors), mechanism.reference(*tensors)
    require(out.shape[1] == 4, f"4 heads of queries give {out.shape[1]}")
    if expected is not None:
        require_near(out, expected, "the output of shared heads")
