"""Compare one call of a timed subject with an oracle, in the trial and again after the rounds.

Both times fresh values are copied into the timed tensors, so that a result cached by address is
wrong. The trial runs the oracle and saves its result for the check after the rounds.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bench.core.cell import Cell
from bench.core.cli.errors import ConfigError
from bench.core.cli.files import write_whole
from bench.core.cli.temporary import workers_folder
from bench.measuring.inputs import with_channels
from bench.measuring.oracle.expected import (
    Expected,
    Extent,
    Piece,
    ask,
    check_index,
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
"""Number of roundings, or of differences between equal calls, that count as no change."""


@dataclass(frozen=True, kw_only=True)
class Checked(Errors):
    """Result of the check before timing, with the expected tensors for the check after the rounds.

    Attributes:
        oracle, checked_len, checked_share, is_view, leaks_future: see `bench.core.record.Speed`.
        expected: None for a whole model, whose oracle runs again after the rounds.
    """

    oracle: str
    checked_len: int | None
    checked_share: float
    is_view: bool = False
    leaks_future: bool = False
    expected: Expected | None = None


def check(subject: Subject) -> Checked:
    """Compare a cell's mechanism with its oracle: its output, and its gradients if it takes any.

    The subject's first input set is overwritten, and graphs and states made from it are dropped.

    Raises:
        Incorrect: the output holds NaN or infinity, or is constant; an input was changed; or an
            error is beyond the tolerance of the dtype.
    """
    w = subject.cell.kernel
    leaks_future = _leaks_future(subject)
    asked, extent, expected = _ask_oracle(subject, leaks_future)
    errors, is_view = compare(asked, expected)
    left = expected
    if asked is not subject:  # no oracle covers so long a call: keep the subject's own output
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
        expected=left.subsampled(),
    )


_Asked = tuple[Subject, Extent, Expected]


def _ask_oracle(subject: Subject, leaks_future: bool) -> _Asked:
    """Run the oracle: the subject it was run for, the part that it covers, and its result.

    The subject is the one given, or a shorter one if no oracle covers a call of this length. The
    first tokens alone stand for a causal form only if it does not leak the future.
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
        except Exception:  # a mechanism may raise anything at a length that is not the cell's
            continue
    return ways[-1]()


def _lengths_near(longest: int, *, is_square: bool) -> list[int]:
    """Lengths to try: the longest that an oracle can take, then rounder ones below it.

    >>> _lengths_near(1447, is_square=False), _lengths_near(1447, is_square=True)
    ([1447, 1408, 1024], [1444, 1408, 1024])
    """
    first = math.isqrt(longest) ** 2 if is_square else longest
    rounder = (longest // 64 * 64, 2 ** (longest.bit_length() - 1))
    return list(dict.fromkeys([first, *(length for length in rounder if length)]))


def _ask_first(subject: Subject, extent: Extent, num_tokens: int) -> _Asked:
    """As `_ask_oracle`, for the first tokens of a causal form."""
    extent = replace(extent, rows=tuple(range(num_tokens)))
    return subject, extent, ask(subject, extent)


def _ask_at(subject: Subject, extent: Extent, seq_len: int) -> _Asked:
    """As `_ask_oracle`, for one sequence of another length."""
    w = subject.cell.kernel
    key_len = None if w.key_len is None else min(w.key_len, seq_len)
    eager = replace(w, compile="eager", batch_size=1, key_len=key_len)
    asked = Subject(replace(subject.cell, workload=eager), seq_len=seq_len, library=subject.library)
    asked.call()
    rows = (seq_len - 1,) if w.mode == "decode" else tuple(range(seq_len))
    extent = replace(extent, seq_len=seq_len, rows=rows, is_prefix=False)
    return asked, extent, ask(asked, extent)


def keep(cell: Cell, expected: Expected) -> None:
    """Save an oracle's result for the rounds; on a full disk, it will be computed again."""
    content = BytesIO()
    torch.save(expected.to_dict(), content)
    with suppress(ConfigError):
        write_whole(_kept_at(cell), content.getvalue(), is_derived=True)


def after_rounds(cell: Cell, subject: Subject) -> None:
    """Check the subject that was timed once more, with values that no call has seen.

    They are copied into the timed tensors. If the oracle's result of the trial cannot be read,
    because another mechanism has damaged it, the oracle runs again.

    Raises:
        Incorrect: as in `check`.
    """
    try:
        try:
            compare(subject, _kept(cell))
        except Incorrect:
            raise
        except Exception:  # torch raises many kinds of errors for a damaged file
            check(subject)
    except Incorrect as error:
        raise Incorrect(f"after the rounds, for values that no call had seen, {error}") from error


def _kept(cell: Cell) -> Expected:
    kept = torch.load(_kept_at(cell), weights_only=True)
    pieces = tuple(Piece(**piece) for piece in kept.pop("pieces"))
    return Expected(pieces=pieces, **kept)


def _kept_at(cell: Cell) -> Path:
    return workers_folder() / "expected" / f"{cell.key}.pt"


def compare(subject: Subject, expected: Expected) -> tuple[Errors, bool]:
    """Overwrite a subject's first input set with fresh values, call it, and compare.

    Says whether the output shares memory with an input as well.

    Raises:
        Incorrect: as in `check`.
    """
    try:
        return _compare(subject, expected)
    except Incorrect:
        if not (subject.module.training and _has_drawn(subject, expected)):
            raise
    # Random features, for example, are redrawn every so many calls in training.
    subject.module.eval()
    try:
        return _compare(subject, expected)
    finally:
        subject.module.train()


def _has_drawn(subject: Subject, expected: Expected) -> bool:
    """Whether a buffer has other values now than in the oracle's call."""
    return any(
        not torch.equal(buffer, expected.state[name])
        for name, buffer in subject.module.named_buffers()
        if name in expected.state
    )


def _compare(subject: Subject, expected: Expected) -> tuple[Errors, bool]:
    tolerance = TOLERANCES[subject.cell.kernel.dtype]
    before, out = _forward(subject, expected)
    ours = part_of(expected, expected.pieces[0], subject.without_padding(out.detach()))
    values = expected.pieces[0].values
    assert values is not None
    errors = distance(ours, values)
    del values  # before the backward pass runs
    refuse_beyond(errors, tolerance, 1.0, "output")
    gradients = _backward(subject, before, out)
    for mine, piece in zip(gradients, expected.pieces[1:], strict=True):
        gradient = None if mine is None else part_of(expected, piece, mine)
        check_gradient(gradient, piece.values, tolerance, piece.what)
    owned = {x.untyped_storage().data_ptr() for x in subject.sets[0]}
    return errors, out.untyped_storage().data_ptr() in owned


def part_of(expected: Expected, piece: Piece, found: Tensor) -> Tensor:
    """The part of a whole tensor, with channels last, that a piece covers."""
    return found[-expected.num_sequences :, ..., list(piece.tokens), :]


def _forward(subject: Subject, expected: Expected) -> tuple[list[Tensor], Tensor]:
    """Call on fresh values; returns copies of these, made before the call, and the output."""
    w = subject.cell.kernel
    tensors = subject.sets[0]
    before = _fill(subject, expected)
    with torch.set_grad_enabled(w.has_backward):
        out, after = subject.outputs(tensors, subject.runner)
    refuse_subclasses(out, after)
    like = tensors[-1][..., -1:, :] if w.mode == "decode" else tensors[-1]
    refuse_nothing(out.detach(), like)
    if not subject.keywords:  # a mask may hide all keys of a row
        refuse_empty(out.detach())
    _refuse_changed(subject, before)
    return before, out


def _backward(subject: Subject, before: list[Tensor], out: Tensor) -> list[Tensor | None]:
    """Gradients of the inputs, with channels last; none if the mode takes none."""
    if not subject.cell.kernel.has_backward:
        return []
    tensors = subject.sets[0]
    gradients = subject.gradients(out, tensors)[: len(tensors) - 1]
    refuse_subclasses(*gradients)
    _refuse_changed(subject, before)
    return with_channels(gradients, tensors[0])


def refuse_uninitialised(subject: Subject) -> None:
    """Call a correct subject once more, without a compiler, with new memory filled with NaN.

    With padding only the output is checked.

    Raises:
        Incorrect: it reads uninitialised memory. With padding only the output is checked.
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
    """Have torch fill new memory with NaN, which it does in its deterministic mode."""
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
    """Put fresh values into the first input set, and the oracle's weights; copies of the values."""
    tensors = subject.sets[0]
    subject.refill(tensors, expected.index)
    with torch.no_grad():
        if subject.cell.kernel.mode != "decode":
            tensors[-1].mul_(mask_of(tensors[-1], expected))
        for name, tensor in state_of(subject.module):
            known = expected.state.get(name)
            if known is not None and known.shape == tensor.shape:
                tensor.copy_(known)
    return [x.detach().clone() for x in tensors]


def _own(subject: Subject) -> Expected:
    """The subject's own tensors, for later checks of a call that is too long for any oracle."""
    w = subject.cell.kernel
    every = tuple(range(w.seq_len))
    asked = Expected(
        index=check_index(subject.cell),
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
    """Whether other keys, values and gates at later tokens change earlier outputs of a causal form.

    The past ends within a chunk, whatever a chunk's length. A decode step has no later tokens. The
    first input set is left changed.
    """
    w, tensors, module = subject.cell.kernel, subject.sets[0], subject.module
    if not w.causal or w.mode == "decode" or w.seq_len < 2:
        return False
    past = min(w.seq_len - 1, 5 * w.seq_len // 8 | 1)
    given, gates = subject.arguments(tensors)
    later = given[-2:]  # k and v, or x of a layer
    module.eval()  # so that no random features are redrawn between two calls

    def before() -> Tensor:
        with torch.set_grad_enabled(w.has_backward):
            return subject.forward(tensors).detach()[..., :past, :].clone()

    try:
        first = before()
        with torch.no_grad():
            for tensor in later:
                tensor[..., past:, :].mul_(-2.0)  # changes a maximum over all tokens as well
            for gate in gates.values():
                gate[:, :, past:].mul_(0.5)  # still a share, or the logarithm of one
        other = before()
        if torch.equal(first, other):
            return False
        noise = _moved(other, before())  # between two equal calls
        return _moved(first, other) > _ROUNDINGS * max(noise, torch.finfo(first.dtype).eps)
    finally:
        module.train(w.has_backward)


def _moved(ours: Tensor, theirs: Tensor) -> float:
    """Largest change of a row, relative to its norm."""
    ours, theirs = ours.double(), theirs.double()
    return float(((ours - theirs).norm(dim=-1) / theirs.norm(dim=-1).clamp_min(1e-300)).max())
