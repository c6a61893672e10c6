"""One call of what is timed, compared with an oracle: in the trial, and again after the rounds.

Both times fresh values are copied into the tensors that are timed, so that an answer that was kept
by address is a wrong one. The trial asks the oracle and leaves what it said for the rounds.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from bench.cell import Cell
from bench.compiled import workers_folder
from bench.inputs import lengths_of_rows
from bench.oracle import (
    ITSELF,
    TOLERANCES,
    Errors,
    Incorrect,
    can_ask_by_rows,
    check_gradient,
    distance,
    refuse_beyond,
    refuse_nothing,
    slow_form,
    slow_form_without_padding,
)
from bench.subject import Subject

CHECK_INDEX = 1_000_000
"""Number of the input set that is checked; calls that are timed never come so far."""
MAX_PAIRS = {"forward": 2**25, "backward": 2**24}
"""Pairs of tokens, over heads and sequences, that an oracle writes out in float64: about 2 GiB and
3 s on a modest core. Beyond them it is asked about less."""
NUM_ROWS = 64
"""Query rows that an oracle is asked about where all are too many."""
MAX_KEPT = 256
"""Tokens of a sequence whose values are kept for the check after the rounds."""
_NAMES = {4: ("q", "k", "v", "cotangent"), 2: ("x", "cotangent")}


@dataclass(frozen=True, kw_only=True)
class Piece:
    """What a tensor should hold at some tokens.

    Attributes:
        what: such as ``output`` or ``gradient of input q``.
        tokens: places along the sequence.
        values: (..., T, C) in float64, of the last sequences of the batch; None for a gradient of
            nothing.
    """

    what: str
    tokens: tuple[int, ...]
    values: Tensor | None

    def thinned(self) -> Piece:
        """With `MAX_KEPT` tokens at most, spread, the last one included."""
        if len(self.tokens) <= MAX_KEPT:
            return self
        at = spread(len(self.tokens), MAX_KEPT)
        values = None if self.values is None else self.values[..., list(at), :].clone()
        return Piece(what=self.what, tokens=tuple(self.tokens[i] for i in at), values=values)


@dataclass(frozen=True, kw_only=True)
class Expected:
    """What a call should give for the inputs of `CHECK_INDEX`.

    Attributes:
        oracle: who says so, see `bench.oracle.slow_form`.
        num_sequences: the last ones of the batch that it was asked about.
        rows: the query rows; the cotangent is zero at all others.
        pieces: the output first, then the gradients of the inputs if the mode takes any.
        state: parameters and buffers that it holds for, by name.
    """

    oracle: str
    num_sequences: int
    rows: tuple[int, ...]
    pieces: tuple[Piece, ...]
    state: dict[str, Tensor]


@dataclass(frozen=True, kw_only=True)
class Checked(Errors):
    """What a check found, and what it leaves for the one after the rounds.

    Attributes:
        oracle, checked_len, checked_share, is_view: see `bench.record.Speed`.
        expected: None of a whole model, whose check asks anew.
    """

    oracle: str
    checked_len: int | None
    checked_share: float
    is_view: bool = False
    expected: Expected | None = None


@dataclass(frozen=True, kw_only=True)
class Extent:
    """How much an oracle is asked about.

    Attributes:
        seq_len: tokens of a sequence.
        num_sequences: of the batch, the last ones.
        rows: query rows.
        is_prefix: whether it is given the tokens of these rows only, which is enough for a causal
            form.
    """

    seq_len: int
    num_sequences: int
    rows: tuple[int, ...]
    is_prefix: bool = False


def spread(length: int, count: int) -> tuple[int, ...]:
    """Up to `count` places of a sequence, evenly, the last one included.

    >>> spread(10, 3), spread(2, 3)
    ((2, 5, 9), (0, 1))
    """
    count = min(length, count)
    return tuple((i + 1) * length // count - 1 for i in range(count))


def extent_of(subject: Subject) -> Extent:
    """All of a call, or as much of it as an oracle can write out."""
    w = subject.cell.kernel
    allowed = MAX_PAIRS["backward" if w.has_backward else "forward"] // w.num_heads
    length, num_keys, batch = w.seq_len, w.num_keys, w.batch_size
    last = (length - 1,)
    every = last if w.mode == "decode" else tuple(range(length))
    if batch * length * num_keys <= allowed:
        return Extent(seq_len=length, num_sequences=batch, rows=every)
    if can_ask_by_rows(subject.module):
        shortest = min(queries for queries, _ in w.row_lens)  # the others are padding somewhere
        rows = last if w.mode == "decode" else spread(shortest, NUM_ROWS)
        fitting = allowed // (len(rows) * num_keys)
        return Extent(seq_len=length, num_sequences=max(1, min(batch, fitting)), rows=rows)
    if length * num_keys <= allowed:
        fitting = allowed // (length * num_keys)
        return Extent(seq_len=length, num_sequences=fitting, rows=every)
    shorter = 2 ** int(math.log2(math.isqrt(allowed)))  # grids and landmarks like powers of two
    rows = (shorter - 1,) if w.mode == "decode" else tuple(range(shorter))
    core: Any = getattr(subject.module, "core", subject.module)
    is_prefix = w.causal and w.mode != "decode" and not core.capabilities.needs_grid
    seq_len = length if is_prefix else shorter
    return Extent(seq_len=seq_len, num_sequences=1, rows=rows, is_prefix=is_prefix)


def check(subject: Subject) -> Checked:
    """Compare a cell's mechanism with its oracle, outputs and, if it has them, gradients.

    What calls have made of the subject's first input set is forgotten.

    Raises:
        Incorrect: not finite, nothing, an input changed, or beyond the tolerance of the dtype.
    """
    w = subject.cell.kernel
    asked, extent, expected = _consult(subject)
    errors, is_view = compare(asked, expected)
    left = expected
    if asked is not subject:  # the oracle has said nothing of so long a call: keep its own output
        left = _own(subject)
    num_rows = 1 if w.mode == "decode" else asked.cell.kernel.seq_len
    share = len(extent.rows) / num_rows
    if asked is subject:
        share *= extent.num_sequences / w.batch_size
    return Checked(
        **asdict(errors),
        oracle=expected.oracle,
        checked_len=extent.seq_len,
        checked_share=share,
        is_view=is_view,
        expected=replace(left, pieces=tuple(piece.thinned() for piece in left.pieces)),
    )


def _consult(subject: Subject) -> tuple[Subject, Extent, Expected]:
    """What an oracle says, how much it was asked about, and of what: itself, or a shorter one."""
    extent, w = extent_of(subject), subject.cell.kernel
    if extent.is_prefix:
        try:
            return subject, extent, _ask(subject, extent)
        except ValueError:  # it takes no fewer tokens than it was built for
            extent = replace(extent, seq_len=len(extent.rows), is_prefix=False)
    asked = subject
    if extent.seq_len < w.seq_len:
        key_len = None if w.key_len is None else min(w.key_len, extent.seq_len)
        eager = replace(w, compile="eager", batch_size=1, key_len=key_len)
        cell = replace(subject.cell, workload=eager)
        asked = Subject(cell, seq_len=extent.seq_len, library=subject.library)
    return asked, extent, _ask(asked, extent)


def keep(cell: Cell, expected: Expected) -> None:
    """Leave what a trial's oracle said for the rounds."""
    path = _kept_at(cell)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    torch.save(asdict(expected), path)


def after_rounds(cell: Cell, subject: Subject) -> None:
    """Check the very subject that was timed once more, with values that no call has seen.

    They are copied into the tensors that were timed. Nothing is said of a cell of which no trial
    has left anything, such as a reference that is not a member.

    Raises:
        Incorrect: as `check`.
    """
    path = _kept_at(cell)
    if not path.exists():
        return
    kept = torch.load(path, weights_only=True)
    pieces = tuple(Piece(**piece) for piece in kept.pop("pieces"))
    try:
        compare(subject, Expected(pieces=pieces, **kept))
    except Incorrect as error:
        raise Incorrect(f"after the rounds, for values that no call had seen, {error}") from error


def _kept_at(cell: Cell) -> Path:
    return workers_folder() / "expected" / f"{cell.key}.pt"


def compare(subject: Subject, expected: Expected) -> tuple[Errors, bool]:
    """Give a subject's first input set fresh values, call it, and compare.

    Returns:
        The output's errors, and whether it shares memory with an input.

    Raises:
        Incorrect: as `check`.
    """
    tolerance = TOLERANCES[subject.cell.kernel.dtype]
    before, out = _forward(subject, expected)
    output = expected.pieces[0].values
    assert output is not None
    ours = _at(expected, expected.pieces[0], subject.without_padding(out.detach()))
    errors = distance(ours, output)
    refuse_beyond(errors, tolerance, 1.0, "output")
    gradients = _backward(subject, before, out)
    for mine, piece in zip(gradients, expected.pieces[1:], strict=True):
        gradient = None if mine is None else _at(expected, piece, mine)
        check_gradient(gradient, piece.values, tolerance, piece.what)
    owned = {x.untyped_storage().data_ptr() for x in subject.sets[0]}
    return errors, out.untyped_storage().data_ptr() in owned


def _at(expected: Expected, piece: Piece, found: Tensor) -> Tensor:
    """Of a whole tensor, what a piece is about."""
    return found[-expected.num_sequences :, ..., list(piece.tokens), :]


def _forward(subject: Subject, expected: Expected) -> tuple[list[Tensor], Tensor]:
    """Fresh values, as copies made before the call, and the output for them."""
    w = subject.cell.kernel
    tensors = subject.sets[0]
    before = _fill(subject, expected)
    with torch.set_grad_enabled(w.has_backward):
        out = subject.forward(tensors, subject.runner)
    like = tensors[-1][..., -1:, :] if w.mode == "decode" else tensors[-1]
    refuse_nothing(out.detach(), like)
    _refuse_changed(before, tensors)
    return before, out


def _backward(subject: Subject, before: list[Tensor], out: Tensor) -> list[Tensor | None]:
    """The gradients of the inputs, if the mode takes any."""
    if not subject.cell.kernel.has_backward:
        return []
    tensors = subject.sets[0]
    gradients = subject.gradients(out, tensors)[: len(tensors) - 1]
    _refuse_changed(before, tensors)
    return list(gradients)


def _refuse_changed(before: Sequence[Tensor], tensors: Sequence[Tensor]) -> None:
    for name, x, y in zip(_NAMES[len(tensors)], before, tensors, strict=True):
        if not torch.equal(x, y):
            raise Incorrect(f"it changes its input {name}, which others are still to read")


def _fill(subject: Subject, expected: Expected) -> list[Tensor]:
    """Put fresh values, and the weights that the oracle had, where they lie.

    Returns:
        Copies of the values.
    """
    tensors = subject.sets[0]
    subject.refill(tensors, CHECK_INDEX)
    with torch.no_grad():
        if subject.cell.kernel.mode != "decode":
            tensors[-1].mul_(_mask(tensors[-1], expected))
        for name, tensor in _state(subject.module):
            known = expected.state.get(name)
            if known is not None and known.shape == tensor.shape:
                tensor.copy_(known)
    return [x.detach().clone() for x in tensors]


def _mask(cotangent: Tensor, expected: Expected) -> Tensor:
    """One at what the oracle is asked about, and zero elsewhere."""
    mask = torch.zeros_like(cotangent)
    mask[-expected.num_sequences :, ..., list(expected.rows), :] = 1
    return mask


def _state(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    yield from module.named_parameters()
    yield from module.named_buffers()


def _weights(subject: Subject) -> dict[str, Tensor]:
    return {name: x.detach().clone() for name, x in _state(subject.module)}


def _ask(subject: Subject, extent: Extent) -> Expected:
    """What an oracle says, from copies that the subject does not see."""
    w = subject.cell.kernel
    rows = list(extent.rows)
    seen = len(rows) if extent.is_prefix else max(w.seq_len, w.num_keys)
    wide = [
        x[-extent.num_sequences :, ..., :seen, :].detach().cpu().double()
        for x in subject.draw(CHECK_INDEX)
    ]
    given = [x.requires_grad_(w.has_backward) for x in wide[:-1]]
    slow = copy.deepcopy(subject.module).cpu().double()
    with torch.set_grad_enabled(w.has_backward):
        oracle, out = _slow_form(subject, slow, given, rows)
    pieces = [Piece(what="output", tokens=_places(w.mode, rows), values=out.detach())]
    if w.has_backward:
        cotangent = wide[-1][..., rows, :]
        gradients = torch.autograd.grad(out, given, cotangent, allow_unused=True)
        pieces += _gradients(gradients, given)
    return Expected(
        oracle=oracle,
        num_sequences=extent.num_sequences,
        rows=extent.rows,
        pieces=tuple(pieces),
        state=_weights(subject),
    )


def _slow_form(
    subject: Subject, slow: nn.Module, given: list[Tensor], rows: list[int]
) -> tuple[str, Tensor]:
    """What the slow form gives at these rows of the last sequences, of each without its padding."""
    key_mask, num_queries = subject.keywords.get("key_mask"), given[0].shape[-2]
    if key_mask is None:
        return slow_form(slow, given, rows if len(rows) < num_queries else None)
    num_sequences, num_keys = given[1].shape[0], given[1].shape[-2]
    lengths = [
        (min(queries, num_queries), min(keys, num_keys))
        for queries, keys in lengths_of_rows(subject.cell.kernel)[-num_sequences:]
    ]
    key_mask = key_mask[-num_sequences:, :num_keys].cpu()
    return slow_form_without_padding(slow, given, lengths, key_mask, rows)


def _own(subject: Subject) -> Expected:
    """What a subject itself gives: of a call too long for any oracle, to be the same later."""
    w = subject.cell.kernel
    every = tuple(range(w.seq_len))
    asked = Expected(
        oracle=ITSELF,
        num_sequences=w.batch_size,
        rows=every,
        pieces=(),
        state=_weights(subject),
    )
    before, out = _forward(subject, asked)
    gradients = _backward(subject, before, out)
    values = subject.without_padding(out.detach())
    output = Piece(what="output", tokens=_places(w.mode, every), values=values)
    return replace(asked, pieces=(output, *_gradients(gradients, subject.sets[0][:-1])))


def _places(mode: str, rows: Sequence[int]) -> tuple[int, ...]:
    """Where these rows stand in the output; that of a decode step has one token."""
    return (0,) if mode == "decode" else tuple(rows)


def _gradients(values: Sequence[Tensor | None], inputs: Sequence[Tensor]) -> list[Piece]:
    names = _NAMES[len(inputs) + 1]
    return [
        Piece(what=f"gradient of input {name}", tokens=tuple(range(x.shape[-2])), values=gradient)
        for name, x, gradient in zip(names, inputs, values, strict=False)
    ]
