"""docs/numerics.md: what was found of narrow dtypes and hard inputs, as a page."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from bench.core.places import CHECKOUT
from bench.studies.numerics.measure import (
    HARD_LEN,
    HEAD_DIM,
    LARGE,
    NUM_HEADS,
    PLAIN,
    SEQ_LEN,
    Findings,
)
from bench.studies.numerics.store import folder_of

PAGE = "numerics.md"
COMMAND = "python -m bench.verify numerics=true"
_DTYPES = ("float32", "bfloat16", "float16")
_SUFFIX = "_published"

_HEAD = f"""# Numerics

What each dtype loses, and up to which norms outputs and gradients are finite. Made by
`{COMMAND}` from `results/numerics/`; not edited by hand. Batch 1,
{NUM_HEADS} head of {HEAD_DIM} channels, default hyperparameters, randomised weights; on a CPU,
in eager mode, torch {{torch}}.

Half inputs are computed in float32, so an error in half precision is that of rounding the output:
float32 keeps 24 bits (half a step is 6e-8), float16 11 (5e-4), bfloat16 8 (4e-3). Nothing looks at
a result to repair it: what overflows becomes inf or NaN.

## Errors, and where each mechanism ends

**Error** is the largest difference from float64 over the largest output, at N = {SEQ_LEN:,}: of
unit-normal inputs / of queries and keys whose rows have norm 50 (of a layer: its tokens). Float64
gets the same rounded inputs and weights. **Finite to** is the last norm of 1, 2, 4, 8, … at which
output and gradients are finite, at N = {HARD_LEN}; *all* means as far as the dtype reaches. The
worse of the causal and the bidirectional form. `reformer` and `topk` decide, so that a rounding can
give another output, not a less precise one.

"""

_FINITE = f"""
## Inputs that models produce

Finite is promised for: zero queries, zero keys, zero tokens, one number or one token everywhere,
all negative, norms of 1e-6 to 1e3 (to 1e2 in float16), and rows whose keys are all hidden. Output
and gradients were tested on these at N = {HARD_LEN}, in every dtype. Not finite in:

"""

_THEIRS = """
## Beside the published operators

The authors' operators (`attnbench list family=published`) on the same inputs. They run wholly in
the dtype of their inputs, as a model in half precision runs them. Finite to: ours / published.

"""


def path_of(out: Path) -> Path:
    """The page of this checkout if `out` is its results/, else one beside the findings."""
    root = CHECKOUT
    if out.resolve() == root / "results":
        return root / "docs" / PAGE
    return folder_of(out) / PAGE


def page_of(found: Sequence[Findings]) -> str:
    """The whole page."""
    ours = _by_name([each for each in found if not each.is_published])
    theirs = _by_name([each for each in found if each.is_published])
    versions = " and ".join(sorted({each.torch for each in found}))
    parts = [_HEAD.format(torch=versions), *_lines(_overview(ours))]
    parts += [_FINITE, *_lines(_failures(ours))]
    if theirs:
        parts += [_THEIRS, *_lines(_beside(ours, theirs))]
    return "".join(parts)


def _by_name(found: Sequence[Findings]) -> dict[str, list[Findings]]:
    forms: dict[str, list[Findings]] = {}
    for each in found:
        forms.setdefault(each.mechanism, []).append(each)
    return forms


def _lines(lines: Iterator[str]) -> list[str]:
    return [f"{line}\n" for line in lines]


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(head)} |"
    yield f"| {' | '.join(['---', *['---:'] * (len(head) - 1)])} |"
    for row in rows:
        yield f"| {' | '.join(row)} |"


def _overview(ours: dict[str, list[Findings]]) -> Iterator[str]:
    head = ["mechanism", *(f"error, {d}" for d in _DTYPES), *(f"finite to, {d}" for d in _DTYPES)]
    rows = [
        [name, *(_error(forms, d) for d in _DTYPES), *(_end(forms, d) for d in _DTYPES)]
        for name, forms in ours.items()
    ]
    return _table(head, rows)


def _error(forms: Sequence[Findings], dtype: str) -> str:
    """The worst of all forms, of unit-normal inputs and of large ones."""
    claimed = [form.errors[dtype] for form in forms if dtype in form.errors]
    if not claimed:
        return "-"
    return " / ".join(_worst([errors[case] for errors in claimed]) for case in (PLAIN, LARGE))


def _worst(errors: Sequence[float | None]) -> str:
    known = [error for error in errors if error is not None]
    return f"{max(known):.0e}" if len(known) == len(errors) else "not finite"


def _end(forms: Sequence[Findings], dtype: str) -> str:
    claimed = [form.ends[dtype] for form in forms if dtype in form.ends]
    if not claimed:
        return "-"
    ends = [end for end in claimed if end is not None]
    return f"{min(ends):.0e}" if ends else "all"


def _failures(ours: dict[str, list[Findings]]) -> Iterator[str]:
    lines = [line for forms in ours.values() for form in forms for line in form.failures]
    yield from (f"- {line.removesuffix(': not finite')}" for line in lines)
    if not lines:
        yield f"none of {len(ours)} mechanisms."


def _beside(ours: dict[str, list[Findings]], theirs: dict[str, list[Findings]]) -> Iterator[str]:
    rows = []
    for name, forms in theirs.items():
        mine = ours.get(name.removesuffix(_SUFFIX), [])
        ends = [f"{_end(mine, dtype)} / {_end(forms, dtype)}" for dtype in _DTYPES]
        rows.append([name.removesuffix(_SUFFIX), *ends, _broken(forms)])
    rows.sort()
    head = ["mechanism", *(f"finite to, {d}" for d in _DTYPES), "published: not finite on"]
    return _table(head, rows)


def _broken(forms: Sequence[Findings]) -> str:
    """Inputs, by the dtypes in which they break, such as ``a zero query; float16: norm 1e-06``."""
    by_case: dict[str, list[str]] = {}
    for form in forms:
        for dtype, cases in form.broken.items():
            for case in cases:
                by_case.setdefault(case, []).append(dtype)
    by_dtypes: dict[tuple[str, ...], list[str]] = {}
    for case, dtypes in by_case.items():
        by_dtypes.setdefault(tuple(dict.fromkeys(dtypes)), []).append(case)
    parts = [
        f"{'' if len(dtypes) == len(_DTYPES) else ' and '.join(dtypes) + ': '}{', '.join(cases)}"
        for dtypes, cases in by_dtypes.items()
    ]
    return "; ".join(parts) or "-"
