"""Serving: an answer is the same however it is cut, batched, padded, packed, resumed, taken back.

Cuts and places are drawn by hypothesis, which reduces those that fail; the same ones in every run.
Each check records its largest error: ``to the bit``, or ``within x ulp``, where an ulp is the
dtype's eps times the largest entry that is expected.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any

import torch
from torch import Tensor

from ...base import Attention
from ..check import Record, Untestable, check, require
from ..forms import CPU, MEDIUM, Form, Gates, build, gates_of, inputs
from ..tolerances import require_near

DRAWN = 8
"""Examples of each check."""
F32 = torch.float32
ROWS, MOST_ROWS = 3, 6
OTHER_ROWS = [2, 0, 1]
"""Rows whose tokens continue a prefix of others."""
SHORT = 40
"""More tokens than a sparse mechanism attends to at the settings of `forms`."""
AHEAD = 4
"""Tokens that are drafted, or read after a place."""


@dataclass
class Verdict:
    """The largest error that a check has seen, in ulp; raises `Broken` for one that is too large.

    >>> verdict = Verdict()
    >>> verdict.compare(torch.ones(2), torch.ones(2), "the output")
    >>> verdict.words
    'to the bit'
    """

    ulp: float = 0.0

    def compare(self, got: Tensor, want: Tensor, what: str) -> None:
        """Heed an output, and what it is to be."""
        require_near(got, want, what)
        if not torch.equal(got, want):
            self.ulp = max(self.ulp, error_in_ulp(got, want))

    @property
    def words(self) -> str:
        """The sentence of a badge."""
        return f"within {_rounded_up(self.ulp)} ulp" if self.ulp else "to the bit"


def error_in_ulp(got: Tensor, want: Tensor) -> float:
    """The largest error over eps of `got` times the largest entry of `want`."""
    largest = want.double().abs().max() * torch.finfo(got.dtype).eps
    return float((got.double() - want.double()).abs().max() / largest)


def _rounded_up(ulp: float) -> str:
    return f"{math.ceil(ulp * 10) / 10 if ulp < 1 else math.ceil(ulp):g}"


Rows = slice | list[int]


@dataclass(frozen=True, kw_only=True)
class _Served:
    """A mechanism with tokens to serve, and their gates."""

    mechanism: Any
    tensors: tuple[Tensor, ...]
    gates: Gates

    def some(self, at: slice, rows: Rows = slice(None)) -> _Served:
        """The same mechanism with some tokens of some rows."""
        gates = {}
        for name, gate in self.gates.items():
            axis = self.mechanism.gates[name].shape.index("n")
            gates[name] = gate[rows][(slice(None),) * axis + (at,)]
        tensors = tuple(x[rows][..., at, :] for x in self.tensors)
        return _Served(mechanism=self.mechanism, tensors=tensors, gates=gates)

    def whole(self, **masks: Tensor) -> Tensor:
        """Outputs of one pass."""
        out: Tensor = self.mechanism(*self.tensors, **self.gates, **masks)
        return out

    def step(self, state: Any = None, **masks: Tensor) -> tuple[Tensor, Any]:
        """Outputs of one step, from an empty state if None, and the state after it."""
        if state is None:
            x = self.tensors[0]
            state = self.mechanism.init_state(len(x), dtype=x.dtype, device=CPU)
        out: tuple[Tensor, Any] = self.mechanism.step(*self.tensors, state, **self.gates, **masks)
        return out

    def steps(
        self, parts: Sequence[int], state: Any = None, hidden: Tensor | None = None
    ) -> Tensor:
        """Outputs of steps of these lengths; `hidden`, (B, N), is True for tokens to hide."""
        outputs, end = [], 0
        for size in parts:
            at = slice(end, end := end + size)
            hides = hidden is not None and hidden[:, at].any()
            masks = {"key_mask": ~hidden[:, at]} if hides and hidden is not None else {}
            out, state = self.some(at).step(state, **masks)
            outputs.append(out)
        return torch.cat(outputs, dim=-2)

    def clone(self, state: Any) -> Any:
        """A copy of a state, which no step of the original uses up."""
        return getattr(self.mechanism, "clone_state", Attention.clone_state)(state)


def _served(form: Form, seq_len: int, *, rows: int = ROWS, dtype: torch.dtype = F32) -> _Served:
    mechanism = build(form, seq_len=seq_len, dtype=dtype)
    tensors = inputs(mechanism, dtype=dtype, batch_size=rows)
    gates = gates_of(mechanism, tensors) if form.is_core else {}
    return _Served(mechanism=mechanism, tensors=tensors, gates=gates)


def _on_examples(run: Callable[..., None], **drawn: Callable[[Any], Any]) -> None:
    """Run on drawn arguments; each is a function of `hypothesis.strategies`."""
    try:
        from hypothesis import HealthCheck, given, settings, strategies
    except ImportError as error:
        raise Untestable("hypothesis is not installed: pip install 'attnbench[testing]'") from error
    options = settings(
        max_examples=DRAWN,
        derandomize=True,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    kinds = {name: strategy(strategies) for name, strategy in drawn.items()}
    options(given(**kinds)(torch.no_grad()(run)))()


def _between(low: int, high: int) -> Callable[[Any], Any]:
    return lambda draw: draw.integers(low, high)


def _parts(length: int) -> Callable[[Any], Any]:
    """Lengths of the parts of so many tokens, cut anywhere; many a part is of one token."""

    def strategy(draw: Any) -> Any:
        places = draw.sets(draw.tuples(draw.integers(1, length - 2), draw.booleans()), max_size=4)
        cuts = places.map(lambda at: {place + more for place, one in at for more in (0, one)})
        return cuts.map(lambda at: [b - a for a, b in pairwise([0, *sorted(at), length])])

    return strategy


def _is_stepped(form: Form) -> bool:
    return form.causal and form.can.recurrent


@check("chunked_prefill", _is_stepped, records=True)
def a_prefill_in_chunks_gives_what_one_pass_gives(form: Form, record: Record) -> None:
    """Cut anywhere, with the gates of its tokens; in float64 as well, if claimed."""
    if "float64" in form.can.dtypes:
        _chunked(form, torch.float64)
    record("serving", {"verdict": _chunked(form, F32).words})


def _chunked(form: Form, dtype: torch.dtype) -> Verdict:
    served, verdict = _served(form, MEDIUM, dtype=dtype), Verdict()
    expected = served.whole()

    def run(parts: list[int]) -> None:
        verdict.compare(served.steps(parts), expected, f"a prefill in parts of {parts} tokens")

    _on_examples(run, parts=_parts(MEDIUM))
    return verdict


@check("prefix_reuse", _is_stepped, records=True)
def a_prefix_is_continued_twice(form: Form, record: Record) -> None:
    """In alternation, each way as if the prefix had been read for it alone."""
    served, verdict = _served(form, MEDIUM), Verdict()

    def run(prefix: int) -> None:
        read, after = served.some(slice(prefix)), slice(prefix, prefix + AHEAD)
        ways = [served.some(after), served.some(after, OTHER_ROWS)]
        _, kept = read.step()
        states = [served.clone(kept), kept]
        outputs: list[list[Tensor]] = [[], []]
        for token in range(AHEAD):
            for way, state in enumerate(states):
                one, states[way] = ways[way].some(slice(token, token + 1)).step(state)
                outputs[way].append(one)
        for way, (tokens, found) in enumerate(zip(ways, outputs, strict=True)):
            expected = tokens.steps([1] * AHEAD, read.step()[1])
            what = f"continuation {way} of a prefix of {prefix} tokens"
            verdict.compare(torch.cat(found, dim=-2), expected, what)

    _on_examples(run, prefix=_between(1, MEDIUM - AHEAD))
    record("serving", {"verdict": verdict.words})


@check("rollback", _is_stepped, records=True)
def drafted_tokens_are_taken_back(form: Form, record: Record) -> None:
    """A copy of the state before them goes on as if they had never been read."""
    served, verdict = _served(form, MEDIUM), Verdict()

    def run(place: int, drafted: int) -> None:
        before, after = served.some(slice(place)), served.some(slice(place, place + AHEAD))
        _, state = before.step()
        snapshot = served.clone(state)
        served.some(slice(place, place + drafted), OTHER_ROWS).step(state)
        expected = after.steps([1] * AHEAD, before.step()[1])
        what = f"the output after {place} tokens, {drafted} drafted ones taken back"
        verdict.compare(after.steps([1] * AHEAD, snapshot), expected, what)

    _on_examples(run, place=_between(1, MEDIUM - AHEAD), drafted=_between(1, AHEAD))
    record("serving", {"verdict": verdict.words})


@check("batch_invariant", _is_stepped, records=True)
def a_row_alone_gives_what_it_gives_among_others(form: Form, record: Record) -> None:
    """In one pass, and in steps."""
    served, verdict = _served(form, SHORT, rows=MOST_ROWS), Verdict()

    def run(rows: int, row: int, parts: list[int]) -> None:
        row = min(row, rows - 1)
        among, every = served.some(slice(None), slice(rows)), slice(row, row + 1)
        alone = among.some(slice(None), every)
        what = f"row {row} among {rows}"
        verdict.compare(among.whole()[every], alone.whole(), what)
        verdict.compare(among.steps(parts)[every], alone.steps(parts), f"{what} in {parts}")

    last = MOST_ROWS - 1
    _on_examples(run, rows=_between(2, MOST_ROWS), row=_between(0, last), parts=_parts(SHORT))
    record("serving", {"verdict": verdict.words})


@check(
    "padding_invariant",
    lambda form: _is_stepped(form) and "padding" in form.can.masks,
    records=True,
)
def padding_on_the_left_or_on_the_right_changes_nothing(form: Form, record: Record) -> None:
    """On the left in steps, on the right in one pass: each row gives what it gives alone.

    Hidden keys and values of a core are NaN.
    """
    served, verdict = _served(form, SHORT), Verdict()
    places = torch.arange(SHORT)

    def run(lengths: list[int], parts: list[int]) -> None:
        sizes = torch.tensor(lengths)[:, None]
        for side, hidden in (("left", places < SHORT - sizes), ("right", places >= sizes)):
            padded = _Served(
                mechanism=served.mechanism,
                tensors=_without_values(served.tensors, hidden),
                gates=served.gates,
            )
            if side == "left":
                out = padded.steps(parts, hidden=hidden)
            else:
                out = padded.whole(**({"key_mask": ~hidden} if hidden.any() else {}))
            for row, length in enumerate(lengths):
                own = slice(SHORT - length, None) if side == "left" else slice(length)
                one = slice(row, row + 1)
                what = f"a row of {length} tokens padded on the {side} to {SHORT}, in {parts}"
                verdict.compare(out[one][..., own, :], served.some(own, one).whole(), what)

    def lengths(draw: Any) -> Any:
        return draw.lists(draw.integers(1, SHORT), min_size=ROWS, max_size=ROWS)

    try:
        served.steps([SHORT], hidden=(places < 1).expand(ROWS, -1))
    except ValueError as error:
        require("key_mask was given" in str(error), f"fails with hidden tokens: {error}")
        raise Untestable(f"refused: {error}") from error
    _on_examples(run, lengths=lengths, parts=_parts(SHORT))
    record("serving", {"verdict": verdict.words})


def _without_values(tensors: tuple[Tensor, ...], hidden: Tensor) -> tuple[Tensor, ...]:
    q, *rest = tensors
    return q, *(x.masked_fill(hidden[:, None, :, None], torch.nan) for x in rest)


@check("packed", lambda form: form.can.packs and not form.can.needs_grid, records=True)
def sequences_in_one_row_give_what_each_gives_alone(form: Form, record: Record) -> None:
    """Lengths are any, 0 among them; without and with hidden tokens."""
    served, verdict = _served(form, SHORT, rows=1), Verdict()
    kept = torch.rand(1, SHORT) < 0.7

    def run(parts: list[int], is_masked: bool) -> None:
        bounds = list(accumulate(parts, initial=0))
        masks = {"key_mask": kept} if is_masked and "padding" in form.can.masks else {}
        out = served.whole(cu_seqlens=torch.tensor(bounds, dtype=torch.int32), **masks)
        for start, end in pairwise(sorted({*bounds})):
            at = slice(start, end)
            own = served.some(at).whole(**{name: mask[:, at] for name, mask in masks.items()})
            verdict.compare(out[..., at, :], own, f"tokens {start} to {end} of a row of {parts}")

    def parts(draw: Any) -> Any:
        return _parts(SHORT)(draw).flatmap(lambda whole: draw.permutations([0, *whole]))

    _on_examples(run, parts=parts, is_masked=lambda draw: draw.booleans())
    record("serving", {"verdict": verdict.words})


@check("train_equals_serve", _is_stepped, records=True)
def tokens_served_one_by_one_give_what_is_trained(form: Form, record: Record) -> None:
    """Records how far each is from float64 as well: the slow form's, where float64 is not taken."""
    served, verdict = _served(form, MEDIUM), Verdict()
    with torch.no_grad():
        trained, one_by_one = served.whole(), served.steps([1] * MEDIUM)
        verdict.compare(one_by_one, trained, f"{MEDIUM} tokens one by one")
        wide = deepcopy(served.mechanism).double()
        call = wide if "float64" in form.can.dtypes else wide.reference
        gates = {name: gate.double() for name, gate in served.gates.items()}
        oracle = call(*(x.double() for x in served.tensors), **gates)
    whole, parts = (_rounded_up(error_in_ulp(x, oracle)) for x in (trained, one_by_one))
    told = f"{verdict.words}; from float64, one pass is off by {whole} ulp, steps by {parts}"
    record("serving", {"verdict": told})
