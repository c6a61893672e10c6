"""One call of what is timed, compared with an oracle: in the trial, and again after the rounds.

Both times fresh values are copied into the tensors that are timed, so that an answer that was kept
by address is a wrong one. The trial asks the oracle and leaves what it said for the rounds.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bench.core.cell import Cell
from bench.core.cli.stored_files import open_regular
from bench.core.cli.temporary import workers_folder
from bench.measuring.inputs import with_channels
from bench.measuring.oracle.expected import (
    CHECK_INDEX,
    Expected,
    Extent,
    Piece,
    ask,
    extent_of,
    gradient_pieces,
    mask_of,
    places_of,
    state_of,
    weights_of,
)
from bench.measuring.oracle.oracle import (
    ITSELF,
    TOLERANCES,
    Errors,
    Incorrect,
    check_gradient,
    distance,
    refuse_beyond,
    refuse_empty,
    refuse_nothing,
    refuse_subclasses,
)
from bench.measuring.subject import Subject

_ROUNDINGS = 4
"""Number of roundings, or of differences between equal calls, by which the past may change with the
future.
"""


@dataclass(frozen=True, kw_only=True)
class Checked(Errors):
    """Result of the check before timing, with the expected tensors for the check after the rounds.

    Attributes:
        oracle, checked_len, checked_share, is_view, leaks_future: see `bench.core.record.Speed`.
        expected: None of a whole model, whose check asks anew.
    """

    oracle: str
    checked_len: int | None
    checked_share: float
    is_view: bool = False
    leaks_future: bool = False
    expected: Expected | None = None


def check(subject: Subject) -> Checked:
    """Compare a cell's mechanism with its oracle, outputs and, if it has them, gradients.

    What calls have made of the subject's first input set is forgotten.

    Raises:
        Incorrect: not finite, nothing, an input changed, or beyond the tolerance of the dtype.
    """
    w = subject.cell.kernel
    leaks_future = _leaks_future(subject)
    asked, extent, expected = _consult(subject, leaks_future)
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
        leaks_future=leaks_future,
        expected=left.thinned(),
    )


_Consulted = tuple[Subject, Extent, Expected]


def _consult(subject: Subject, leaks_future: bool) -> _Consulted:
    """Ask an oracle: its answer, which part it covers, and whether of this call or a shorter one.

    Of a form that leaks the future, the first tokens are not what they are without the later ones.
    """
    extent = extent_of(subject)
    if extent.seq_len == subject.cell.kernel.seq_len and not extent.is_prefix:
        return subject, extent, ask(subject, extent)
    core: Any = getattr(subject.module, "core", subject.module)
    longest = extent.seq_len if not extent.is_prefix else len(extent.rows)
    lengths = _lengths_near(longest, is_square=core.capabilities.needs_grid)
    ways = [partial(_ask_at, subject, extent, length) for length in lengths]
    if extent.is_prefix and not leaks_future:
        ways = [*(partial(_ask_first, subject, extent, length) for length in lengths), *ways]
    for way in ways[:-1]:
        try:
            return way()
        except Exception:  # whatever a mechanism has against a length that nobody asked for
            continue
    return ways[-1]()


def _lengths_near(longest: int, *, is_square: bool) -> list[int]:
    """Lengths up to the longest that an oracle can take, rounder ones behind.

    >>> _lengths_near(1447, is_square=False), _lengths_near(1447, is_square=True)
    ([1447, 1408, 1024], [1444, 1408, 1024])
    """
    first = math.isqrt(longest) ** 2 if is_square else longest
    rounder = (longest // 64 * 64, 2 ** (longest.bit_length() - 1))
    return list(dict.fromkeys([first, *(length for length in rounder if length)]))


def _ask_first(subject: Subject, extent: Extent, num_tokens: int) -> _Consulted:
    """As `_consult`, about the first tokens of a causal form."""
    extent = replace(extent, rows=tuple(range(num_tokens)))
    return subject, extent, ask(subject, extent)


def _ask_at(subject: Subject, extent: Extent, seq_len: int) -> _Consulted:
    """As `_consult`, of one sequence of another length."""
    w = subject.cell.kernel
    key_len = None if w.key_len is None else min(w.key_len, seq_len)
    eager = replace(w, compile="eager", batch_size=1, key_len=key_len)
    asked = Subject(replace(subject.cell, workload=eager), seq_len=seq_len, library=subject.library)
    asked.call()
    rows = (seq_len - 1,) if w.mode == "decode" else tuple(range(seq_len))
    extent = replace(extent, seq_len=seq_len, rows=rows, is_prefix=False)
    return asked, extent, ask(asked, extent)


def keep(cell: Cell, expected: Expected) -> None:
    """Leave what a trial's oracle said for the rounds; without room for it, it is asked again."""
    path = _kept_at(cell)
    with suppress(OSError, RuntimeError):  # which is what torch raises on a full disk
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        torch.save(expected.to_dict(), path)


def after_rounds(cell: Cell, subject: Subject) -> None:
    """Check the very subject that was timed once more, with values that no call has seen.

    They are copied into the tensors that were timed. Where its trial has left nothing that can be
    used, because another mechanism has damaged it, the oracle is asked again.

    Raises:
        Incorrect: as `check`.
    """
    try:
        try:
            compare(subject, _kept(cell))
        except Incorrect:
            raise
        except Exception:  # torch raises of many kinds for what is none of ours
            check(subject)
    except Incorrect as error:
        raise Incorrect(f"after the rounds, for values that no call had seen, {error}") from error


def _kept(cell: Cell) -> Expected:
    with open_regular(_kept_at(cell)) as file:
        kept = torch.load(file, weights_only=True)
    pieces = tuple(Piece(**piece) for piece in kept.pop("pieces"))
    return Expected(pieces=pieces, **kept)


def _kept_at(cell: Cell) -> Path:
    return workers_folder() / "expected" / f"{cell.key}.pt"


def compare(subject: Subject, expected: Expected) -> tuple[Errors, bool]:
    """Give a subject's first input set fresh values, call it, and compare.

    Returns:
        The output's errors, and whether it shares memory with an input.

    Raises:
        Incorrect: as `check`.
    """
    try:
        return _compare(subject, expected)
    except Incorrect:
        if not (subject.module.training and _has_drawn(subject, expected)):
            raise
    # Such as random features that are drawn anew every so many calls in training.
    subject.module.eval()
    try:
        return _compare(subject, expected)
    finally:
        subject.module.train()


def _has_drawn(subject: Subject, expected: Expected) -> bool:
    """Whether a call has put other values into a buffer than those that the oracle had."""
    return any(
        not torch.equal(buffer, expected.state[name])
        for name, buffer in subject.module.named_buffers()
        if name in expected.state
    )


def _compare(subject: Subject, expected: Expected) -> tuple[Errors, bool]:
    tolerance = TOLERANCES[subject.cell.kernel.dtype]
    before, out = _forward(subject, expected)
    ours = _at(expected, expected.pieces[0], subject.without_padding(out.detach()))
    errors = _distance(ours, expected.pieces[0])  # the answer is gone before the backward pass
    refuse_beyond(errors, tolerance, 1.0, "output")
    gradients = _backward(subject, before, out)
    for mine, piece in zip(gradients, expected.pieces[1:], strict=True):
        gradient = None if mine is None else _at(expected, piece, mine)
        check_gradient(gradient, piece.values, tolerance, piece.what)
    owned = {x.untyped_storage().data_ptr() for x in subject.sets[0]}
    return errors, out.untyped_storage().data_ptr() in owned


def _distance(ours: Tensor, piece: Piece) -> Errors:
    values = piece.values
    assert values is not None
    return distance(ours, values)


def _at(expected: Expected, piece: Piece, found: Tensor) -> Tensor:
    """The part of a whole tensor with channels that a piece covers."""
    return found[-expected.num_sequences :, ..., list(piece.tokens), :]


def _forward(subject: Subject, expected: Expected) -> tuple[list[Tensor], Tensor]:
    """Fresh values, as copies made before the call, and the output for them."""
    w = subject.cell.kernel
    tensors = subject.sets[0]
    before = _fill(subject, expected)
    with torch.set_grad_enabled(w.has_backward):
        out, after = subject.outputs(tensors, subject.runner)
    refuse_subclasses(out, after)
    like = tensors[-1][..., -1:, :] if w.mode == "decode" else tensors[-1]
    refuse_nothing(out.detach(), like)
    if not subject.keywords:  # what a mask leaves of a row may be nothing
        refuse_empty(out.detach())
    _refuse_changed(subject, before)
    return before, out


def _backward(subject: Subject, before: list[Tensor], out: Tensor) -> list[Tensor | None]:
    """The gradients of the inputs, if the mode takes any, with channels."""
    if not subject.cell.kernel.has_backward:
        return []
    tensors = subject.sets[0]
    gradients = subject.gradients(out, tensors)[: len(tensors) - 1]
    refuse_subclasses(*gradients)
    _refuse_changed(subject, before)
    return with_channels(gradients, tensors[0])


def refuse_uninitialised(subject: Subject) -> None:
    """Call what was found right once more, as it is without a compiler, on memory full of NaN.

    Raises:
        Incorrect: it reads what nobody has written. With padding only the output is looked at.
    """
    tensors = subject.sets[0]
    has_backward = subject.cell.timed.has_backward
    with _uninitialised_is_nan(), torch.set_grad_enabled(has_backward):
        out = subject.forward(tensors)
        takes_gradients = has_backward and not subject.keywords
        gradients = subject.gradients(out, tensors) if takes_gradients else ()
    for x in (subject.without_padding(out.detach()), *gradients):
        if x is not None and bool(x.isnan().any()):
            raise Incorrect("it reads uninitialised memory: its result is NaN where that holds NaN")


@contextmanager
def _uninitialised_is_nan() -> Iterator[None]:
    """Have torch fill what it allocates; it does so where it is asked to be deterministic."""
    was = torch.are_deterministic_algorithms_enabled()
    only_warned = torch.is_deterministic_algorithms_warn_only_enabled()
    settings: Any = torch.utils.deterministic
    filled = settings.fill_uninitialized_memory
    try:
        torch.use_deterministic_algorithms(True, warn_only=True)
        settings.fill_uninitialized_memory = True
        with warnings.catch_warnings(action="ignore"):
            yield
    finally:
        settings.fill_uninitialized_memory = filled
        torch.use_deterministic_algorithms(was, warn_only=only_warned)


def _refuse_changed(subject: Subject, before: Sequence[Tensor]) -> None:
    for name, x, y in zip(subject.names, before, subject.sets[0], strict=True):
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
            tensors[-1].mul_(mask_of(tensors[-1], expected))
        for name, tensor in state_of(subject.module):
            known = expected.state.get(name)
            if known is not None and known.shape == tensor.shape:
                tensor.copy_(known)
    return [x.detach().clone() for x in tensors]


def _own(subject: Subject) -> Expected:
    """The subject's own output for a call too long for any oracle, to be compared with later."""
    w = subject.cell.kernel
    every = tuple(range(w.seq_len))
    asked = Expected(
        oracle=ITSELF,
        num_sequences=w.batch_size,
        rows=every,
        pieces=(),
        state=weights_of(subject),
    )
    before, out = _forward(subject, asked)
    gradients = _backward(subject, before, out)
    values = subject.without_padding(out.detach())
    output = Piece(what="output", tokens=places_of(w.mode, every), values=values)
    pieces = gradient_pieces(subject.names, gradients, subject.sets[0][:-1])
    return replace(asked, pieces=(output, *pieces))


def _leaks_future(subject: Subject) -> bool:
    """Whether other keys, values and gates later on change what a causal form gave before.

    The past ends within a chunk, whatever a chunk's length. A step of a decode has no future. The
    first input set is left changed.
    """
    w, tensors, module = subject.cell.kernel, subject.sets[0], subject.module
    if not w.causal or w.mode == "decode" or w.seq_len < 2:
        return False
    past = min(w.seq_len - 1, 5 * w.seq_len // 8 | 1)
    given, gates = subject.arguments(tensors)
    later = given[-2:]  # k and v, or x of a layer
    module.eval()  # nothing is drawn anew between two calls

    def before() -> Tensor:
        with torch.set_grad_enabled(w.has_backward):
            return subject.forward(tensors).detach()[..., :past, :].clone()

    try:
        first = before()
        with torch.no_grad():
            for tensor in later:
                tensor[..., past:, :].mul_(-2.0)  # so that a maximum over all is another one
            for gate in gates.values():
                gate[:, :, past:].mul_(0.5)  # still a share, or the logarithm of one
        other = before()
        if torch.equal(first, other):
            return False
        noise = _moved(other, before())  # of two calls that are the same
        return _moved(first, other) > _ROUNDINGS * max(noise, torch.finfo(first.dtype).eps)
    finally:
        module.train(w.has_backward)


def _moved(ours: Tensor, theirs: Tensor) -> float:
    """The most by which a row moves, relative to its norm."""
    ours, theirs = ours.double(), theirs.double()
    return float(((ours - theirs).norm(dim=-1) / theirs.norm(dim=-1).clamp_min(1e-300)).max())
