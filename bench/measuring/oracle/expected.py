"""Which part of a call the float64 oracle covers, and its result, kept for the rounds.

An oracle works pair by pair in float64, so it cannot cover all of a long call.
"""

from __future__ import annotations

import os
import secrets
import tempfile
import weakref
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from bench.core.cell import Cell
from bench.measuring.building import is_foreign
from bench.measuring.inputs import at_tokens, lengths_of_rows, with_channels
from bench.measuring.measure.flops import count
from bench.measuring.oracle.oracle import (
    can_ask_by_rows,
    float64_copy,
    slow_form,
    slow_form_without_padding,
)
from bench.measuring.subject import Subject

_CHECK_INDEX = 1_000_000


def check_index(cell: Cell) -> int:
    """Index of an input set to check, which timed calls never reach; random for a plugin's."""
    return _CHECK_INDEX + (secrets.randbelow(2**30) if is_foreign(cell) else 0)


MAX_PAIRS = {"forward": 2 * 2**30 // 40, "backward": 2 * 2**30 // 75}
"""Largest number of pairs of tokens, over heads and sequences, that an oracle may write out: 2 GiB
at up to 40 bytes for each pair, and 75 with gradients."""
MAX_S = 3.0
"""Largest number of seconds that an oracle may take, by an estimate."""
FREE_PAIRS = 2**18
"""Largest number of pairs for which no estimate is made."""
NUM_ROWS = 64
"""Number of query rows that an oracle computes if all are too many."""
MAX_KEPT = 256
"""Largest number of tokens, over all sequences, that are kept for the check after the rounds."""
_WATCHED = (16, 32, 64)
"""Lengths at which an oracle's operators are counted, to estimate a longer call."""
_FLOPS_PER_S, _ELEMENTS_PER_S, _OPERATORS_PER_S = 2e10, 5e8, 2.5e5
"""Assumed speed of one modest core in float64."""


class Piece:
    """Expected values of a tensor at some tokens.

    The values are kept outside of the process's heap, where a running mechanism could find them.

    Args:
        what: name such as ``output`` or ``gradient of input q``.
        tokens: positions in the sequence.
        values: (..., T, C) in float64, for the last sequences of the batch, with one channel for a
            gate of (B, H, N); None for the gradient of an unused input.
    """

    def __init__(self, *, what: str, tokens: tuple[int, ...], values: Tensor | None) -> None:
        self.what = what
        self.tokens = tokens
        self._file: int | None = None
        if values is not None:
            self._file = _new_file()
            weakref.finalize(self, os.close, self._file)
            with open(self._file, "wb", closefd=False) as file:
                torch.save(values, file)

    @property
    def values(self) -> Tensor | None:
        """The values, read from the file; callers drop them before a mechanism runs again."""
        if self._file is None:
            return None
        os.lseek(self._file, 0, os.SEEK_SET)
        with open(self._file, "rb", closefd=False) as file:
            values: Tensor = torch.load(file, weights_only=True)
        return values

    def subsampled(self, num_tokens: int) -> Piece:
        """The piece subsampled to `num_tokens` at most, evenly; in float64, on the CPU."""
        at = spread(len(self.tokens), num_tokens)
        values = self.values
        if values is not None:
            values = values[..., list(at), :].detach().cpu().double()
        return Piece(what=self.what, tokens=tuple(self.tokens[i] for i in at), values=values)

    def to_dict(self) -> dict[str, Any]:
        """The arguments that it was made with."""
        return {"what": self.what, "tokens": self.tokens, "values": self.values}


def _new_file() -> int:
    """Descriptor of a file without a name, in memory if the system supports that."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("expected")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


@dataclass(frozen=True, kw_only=True)
class Expected:
    """Expected output of a call for one input set.

    Attributes:
        index: of the input set, see `check_index`.
        oracle: name of the oracle, see `bench.measuring.oracle.oracle.slow_form`.
        num_sequences: number of sequences, the last ones of the batch.
        rows: the query rows; the cotangent is zero at all others.
        pieces: the output first, then the gradients of the inputs if the mode takes any.
        state: parameters and buffers of the module in this call, by name.
    """

    index: int
    oracle: str
    num_sequences: int
    rows: tuple[int, ...]
    pieces: tuple[Piece, ...]
    state: dict[str, Tensor]

    def to_dict(self) -> dict[str, Any]:
        """The form in which it is saved for the check after the rounds."""
        return vars(self) | {"pieces": [piece.to_dict() for piece in self.pieces]}

    def subsampled(self) -> Expected:
        """The same at `MAX_KEPT` tokens at most, for the check after the rounds."""
        num_tokens = max(1, MAX_KEPT // self.num_sequences)
        return replace(self, pieces=tuple(piece.subsampled(num_tokens) for piece in self.pieces))


@dataclass(frozen=True, kw_only=True)
class Extent:
    """Part of a call that an oracle covers.

    Attributes:
        num_sequences: number of sequences, the last ones of the batch.
        is_prefix: whether the oracle gets the tokens of these rows only, which is enough for a
            causal form.
    """

    seq_len: int
    num_sequences: int
    rows: tuple[int, ...]
    is_prefix: bool = False


def spread(length: int, count: int) -> tuple[int, ...]:
    """Up to `count` evenly spaced positions in a sequence, the last one included.

    >>> spread(10, 3), spread(2, 3)
    ((2, 5, 9), (0, 1))
    """
    count = min(length, count)
    return tuple((i + 1) * length // count - 1 for i in range(count))


def extent_of(subject: Subject) -> Extent:
    """All of a call, or the part of it that an oracle can compute within its limits."""
    w = subject.cell.kernel
    length, num_keys, batch = w.seq_len, w.num_keys, w.batch_size
    last = (length - 1,)
    every = last if w.mode == "decode" else tuple(range(length))
    whole = Extent(seq_len=length, num_sequences=batch, rows=every)
    if batch * w.num_heads * length * num_keys <= FREE_PAIRS:
        return whole
    pairs = MAX_PAIRS["backward" if w.has_backward else "forward"] // w.num_heads
    seconds = _seconds(subject)

    def num_fitting(tokens: int, rows: int) -> int:
        """Number of sequences that fit into memory and time, at most all of the batch."""
        keys = num_keys if tokens == length else min(tokens, num_keys)
        in_time = MAX_S / (seconds(max(tokens, keys)) * rows / tokens)
        return min(batch, pairs // (rows * keys), int(min(in_time, batch)))

    fitting = num_fitting(length, length)
    if fitting == batch:
        return whole
    if can_ask_by_rows(subject.module):
        shortest = min(queries for queries, _ in w.row_lens)  # later rows are padding somewhere
        rows = last if w.mode == "decode" else spread(shortest, NUM_ROWS)
        return replace(whole, num_sequences=max(1, num_fitting(length, len(rows))), rows=rows)
    if fitting:
        return replace(whole, num_sequences=fitting)
    shorter = bisect_left(range(length), True, key=lambda n: not num_fitting(n + 1, n + 1))
    shorter = max(shorter, min(_WATCHED[0], length))
    rows = (shorter - 1,) if w.mode == "decode" else tuple(range(shorter))
    core: Any = getattr(subject.module, "core", subject.module)
    is_prefix = w.causal and w.mode != "decode" and not core.capabilities.needs_grid
    seq_len = length if is_prefix else shorter
    return Extent(seq_len=seq_len, num_sequences=1, rows=rows, is_prefix=is_prefix)


def _seconds(subject: Subject) -> Callable[[int], float]:
    """Estimate an oracle's seconds for one sequence of a length, from counts at three short ones.

    If it cannot be called at these, the estimate is about 0, and pairs alone limit its part.
    """
    w = subject.cell.kernel
    plain = replace(w, batch_size=1, compile="eager", key_len=None, padding=0.0, ragged=0.0)
    one = replace(subject.cell, workload=plain)
    counted = []
    for length in _WATCHED:
        rows = (length - 1,) if w.mode == "decode" else tuple(range(length))
        extent = Extent(seq_len=length, num_sequences=1, rows=rows)
        try:
            short = Subject(one, seq_len=length, library=subject.library)
            counts = count(lambda short=short, extent=extent: ask(short, extent))  # type: ignore[misc]
        except Exception:  # a mechanism may raise anything at a length that is not the cell's
            return lambda _: 1e-9
        counted.append(
            counts.counted_flops / _FLOPS_PER_S
            + counts.elementwise_elements / _ELEMENTS_PER_S
            + counts.num_operators / _OPERATORS_PER_S
        )
    return lambda length: max(*counted, _parabola(counted, length / _WATCHED[0]))


def _parabola(values: Sequence[float], at: float) -> float:
    """Value at `at` of the parabola through three values at 1, 2 and 4.

    >>> _parabola((1.0, 4.0, 16.0), 8.0)
    64.0
    """
    one, two, four = values
    outer = one * (at - 2) * (at - 4) / 3 + four * (at - 1) * (at - 2) / 6
    return outer - two * (at - 1) * (at - 4) / 2


def mask_of(cotangent: Tensor, expected: Expected) -> Tensor:
    """Mask of a cotangent: 1 in the part that the oracle covers, and 0 elsewhere."""
    mask = torch.zeros_like(cotangent)
    mask[-expected.num_sequences :, ..., list(expected.rows), :] = 1
    return mask


def state_of(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Parameters and buffers, each with its name."""
    yield from module.named_parameters()
    yield from module.named_buffers()


def weights_of(subject: Subject) -> dict[str, Tensor]:
    """Copies of a subject's parameters and buffers, by name."""
    return {name: x.detach().clone() for name, x in state_of(subject.module)}


def ask(subject: Subject, extent: Extent, tensors: tuple[Tensor, ...] | None = None) -> Expected:
    """Compute the expected tensors of part of a call, on copies that the subject cannot reach.

    `tensors` are the input set, by default one that `check_index` draws.
    """
    w, index = subject.cell.kernel, check_index(subject.cell)
    tensors = subject.draw(index) if tensors is None else tensors
    rows = list(extent.rows)
    seen = len(rows) if extent.is_prefix else max(w.seq_len, w.num_keys)
    wide = [
        x[-extent.num_sequences :].detach().cpu().double() for x in at_tokens(tensors, slice(seen))
    ]
    given = [x.requires_grad_(w.has_backward) for x in wide[:-1]]
    slow = float64_copy(subject.module)
    with torch.set_grad_enabled(w.has_backward):
        oracle, out = _slow_form(subject, slow, given, rows)
    pieces = [Piece(what="output", tokens=places_of(w.mode, rows), values=out.detach())]
    if w.has_backward:
        cotangent = wide[-1][..., rows, :]
        gradients = torch.autograd.grad(out, given, cotangent, allow_unused=True)
        pieces += gradient_pieces(subject.names, gradients, given)
    return Expected(
        index=index,
        oracle=oracle,
        num_sequences=extent.num_sequences,
        rows=extent.rows,
        pieces=tuple(pieces),
        state=weights_of(subject),
    )


def _slow_form(
    subject: Subject, slow: nn.Module, given: list[Tensor], rows: list[int]
) -> tuple[str, Tensor]:
    """Output of the slow form at some rows of the last sequences, each without its padding."""
    key_mask, num_queries = subject.keywords.get("key_mask"), given[0].shape[-2]
    tensors, gates = subject.arguments((*given, given[0]))
    if key_mask is None:
        return slow_form(slow, tensors, rows if len(rows) < num_queries else None, gates)
    num_sequences, num_keys = given[1].shape[0], given[1].shape[-2]
    lengths = [
        (min(queries, num_queries), min(keys, num_keys))
        for queries, keys in lengths_of_rows(subject.cell.kernel)[-num_sequences:]
    ]
    key_mask = key_mask[-num_sequences:, :num_keys].cpu()
    return slow_form_without_padding(slow, tensors, lengths, key_mask, rows, gates)


def places_of(mode: str, rows: Sequence[int]) -> tuple[int, ...]:
    """Positions of rows in the output; that of a decode step has one token."""
    return (0,) if mode == "decode" else tuple(rows)


def gradient_pieces(
    names: Sequence[str], values: Sequence[Tensor | None], inputs: Sequence[Tensor]
) -> list[Piece]:
    """Gradients of q, k, v and gates, or of a layer's x, as pieces; further names are ignored."""
    lengths = [x.shape[inputs[0].dim() - 2] for x in inputs]
    gradients = with_channels(values, inputs[0])
    return [
        Piece(what=f"gradient of input {name}", tokens=tuple(range(length)), values=gradient)
        for name, length, gradient in zip(names, lengths, gradients, strict=False)
    ]
