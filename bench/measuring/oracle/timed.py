"""Compare the output of one timed call with its oracle: it cannot know that it is looked at."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from bench.measuring.inputs import with_channels
from bench.measuring.oracle.checking import part_of
from bench.measuring.oracle.expected import ask, extent_of, state_of
from bench.measuring.oracle.oracle import (
    TOLERANCES,
    Incorrect,
    check_gradient,
    distance,
    refuse_beyond,
    refuse_subclasses,
)
from bench.measuring.subject import Subject


def check_timed(
    subject: Subject, weights: dict[str, Tensor], tensors: tuple[Tensor, ...], out: Any
) -> None:
    """Compare the output, or the gradients, of a timed call with the oracle of its inputs.

    `tensors` are copies of its inputs. The subject gets the call's weights. Left out are training
    steps, calls of which an oracle covers the first tokens alone, and gradients of which it covers
    a part.

    Raises:
        Incorrect: as in `check`, or it is not a tensor.
    """
    w, extent = subject.cell.kernel, extent_of(subject)
    is_whole = extent.num_sequences * len(extent.rows) == w.batch_size * w.seq_len
    is_left_out = extent.is_prefix or extent.seq_len < w.seq_len
    if w.mode == "train_step" or is_left_out or (w.has_backward and not is_whole):
        return
    with torch.no_grad():
        for name, tensor in state_of(subject.module):
            tensor.copy_(weights[name])
    expected, tolerance = ask(subject, extent, tensors), TOLERANCES[w.dtype]
    refuse_subclasses(out)
    if w.has_backward:
        found = with_channels(out[: len(tensors) - 1], tensors[0])
        for mine, piece in zip(found, expected.pieces[1:], strict=True):
            check_gradient(mine, piece.values, tolerance, f"{piece.what} of a timed call")
        return
    out = out[0] if w.mode in ("prefill", "decode") else out
    if not isinstance(out, Tensor):
        raise Incorrect(f"a timed call gives a value of type {type(out).__name__}, not a tensor")
    values = expected.pieces[0].values
    assert values is not None
    errors = distance(part_of(expected, expected.pieces[0], subject.without_padding(out)), values)
    refuse_beyond(errors, tolerance, 1.0, "output of a timed call")
