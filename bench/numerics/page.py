"""docs/numerics.md: what was found of narrow dtypes and hard inputs, as a page."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import bench
from bench.numerics.cases import HARD_LEN, LENGTHS, MAGNITUDES, NORM_LEN, NORMS, PLAIN
from bench.numerics.measure import HEAD_DIM, MAX_BYTES, MAX_FLOPS, NUM_HEADS, key_of
from bench.numerics.store import OFFICIAL, Line, folder_of

PAGE = "numerics.md"
COMMAND = "python -m bench.verify numerics=true"
_DTYPES = ("float32", "bfloat16", "float16")

_HEAD = f"""# Numerics

What narrow dtypes lose, and what comes out of inputs that break formulas. Written by

    {COMMAND}

from what it saw, which is kept in `results/numerics/`; not edited by hand. Batch 1, {NUM_HEADS}
head of {HEAD_DIM} channels, default hyperparameters, learned values moved away from where they
start. No time is measured here, so the machine matters little; the version of torch is beside
each finding.

An error is the largest difference from float64, over the largest output: both over all tokens.
Float64 gets the same rounded inputs and weights, so that only the arithmetic is compared. float32
keeps 24 bits (6e-8 is half a step), float16 11 (5e-4), bfloat16 8 (4e-3): an output that is
rounded once is off by that much. A length at which one call in float64 would take more than
{MAX_FLOPS:.0e} FLOPs or {MAX_BYTES // 2**30} GiB is left out (`-`). A mechanism that decides
(`reformer` hashes, `topk` sorts) may decide otherwise after a rounding, and then gives another
output, not a less precise one.

Columns: unit-normal inputs at four lengths, then queries and keys, or the tokens of a layer, of
one norm at N = {NORM_LEN}.
"""


def path_of(out: Path) -> Path:
    """The page of this checkout if `out` is its results/, else one beside the findings."""
    root = Path(bench.__file__).resolve().parent.parent
    if out.resolve() == root / "results":
        return root / "docs" / PAGE
    return folder_of(out) / PAGE


def page_of(found: Mapping[str, Sequence[Line]]) -> str:
    """The whole page."""
    forms = [line for name, lines in found.items() if name != OFFICIAL for line in lines]
    parts = [_HEAD]
    for dtype in _DTYPES:
        parts.append(f"## Errors in {dtype}\n\n" + "\n".join(_errors(forms, dtype)) + "\n")
    parts.append(_FINITE + "\n".join(_broken(forms)) + "\n")
    parts.append(_FINITE_TO + "\n".join(_finite_to(forms)) + "\n")
    parts.append(_ELSEWHERE + "\n".join(_finite_elsewhere(forms)) + "\n")
    parts.append(_GIVES + "\n".join(_gives(forms)) + "\n")
    if OFFICIAL in found:
        parts.append(_THEIRS + "\n".join(_theirs(found[OFFICIAL])) + "\n")
    return "\n".join(parts)


def _name(line: Line) -> str:
    return f"{line['mechanism']}, causal" if line["causal"] else str(line["mechanism"])


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    yield _row(head)
    yield _row(["---"] + ["---:"] * (len(head) - 1))
    for row in rows:
        yield _row(row)


def _errors(forms: Sequence[Line], dtype: str) -> Iterator[str]:
    keys = [key_of(PLAIN, n) for n in LENGTHS] + [key_of(f"norm {x:g}", NORM_LEN) for x in NORMS]
    head = ["mechanism", *(f"N = {n:,}" for n in LENGTHS), *(f"norm {x:g}" for x in NORMS)]
    rows = [
        [_name(line), *(_number(line["errors"][dtype], key) for key in keys)]
        for line in forms
        if dtype in line["errors"]
    ]
    return _table(head, rows)


def _number(errors: Mapping[str, float | None], key: str) -> str:
    if key not in errors:
        return "-"
    error = errors[key]
    return "not finite" if error is None else f"{error:.1e}" if error else "0"


_FINITE = f"""## Is everything finite?

Each mechanism, in each dtype, forward and backward and without gradients at N = {HARD_LEN}, on: a
zero query, a zero key (a zero token for a layer), all queries zero, all keys zero, all zero, one
number everywhere, one token everywhere, all negative, norms of 1e-6 and 50; for a core also every
number 1e4, one channel 1e4, every second token zero and the rest 1e4, values of 6.5e4, half the
largest number of the dtype in every place of queries and keys, and all keys hidden where masks are
taken. An output or a gradient that float64 knows to be larger than the dtype's largest
number does not count: infinity is what it rounds to. What was not finite:

"""


def _broken(forms: Sequence[Line]) -> Iterator[str]:
    rows = [
        [_name(line), dtype, case, wrong]
        for line in forms
        for dtype, cases in line["broken"].items()
        for case, wrong in cases.items()
    ]
    if rows:
        yield from _table(["mechanism", "dtype", "input", "not finite"], rows)
    else:
        yield f"Nothing: 0 of {len(forms)} forms."
    yield ""
    yield (
        "Half inputs are computed in float32, by torch's fused kernels inside of them. The one "
        "for processors computes weights again in its backward pass, as exp(s - log_sum), which is "
        "wrong where scores are large, and then infinite. So `softmax`, `sliding_window`, "
        "`block_sparse`, `mla` and `nala_vanilla` take gradients from the online softmax where "
        "that logarithm passes 2^16, and in float16 always (`attentions/_sdpa.py`)."
    )
    yield ""
    yield (
        "Of numbers so large that scores or powers are none of float32, a processor computes once "
        "more in float64 what was not finite, and so takes longer, on such inputs only "
        "(`attentions/_in_float64.py`). `polaformer`, whose powers may be none of float64 either, "
        "starts from logarithms there (`attentions/_large_powers.py`). In `step` sums that are no "
        "numbers of float32 stay in float64 until they are (`attentions/_step_in_float64.py`). "
        "Not so on other devices and in compiled graphs, of which more below."
    )


_FINITE_TO = f"""## How small and how large numbers may be

Some numbers are plus or minus one magnitude, the others unit-normal: all of queries and keys, or of
a layer's tokens; the same one everywhere; one channel; one entry; two opposite entries; and for a
core also queries beside keys of zero, keys beside queries of zero, values, and all three. Tried
were {", ".join(f"{x:g}" for x in MAGNITUDES)}, as far as the dtype holds them.

"""


def _finite_to(forms: Sequence[Line]) -> Iterator[str]:
    rows = [
        [
            _name(line),
            *(f"{to:g}" if (to := line["finite_to"].get(d)) is not None else "-" for d in _DTYPES),
            _stopped_by(line),
        ]
        for line in forms
        if line.get("stopped_by")
    ]
    if rows:
        yield "Outputs and gradients were finite in all cases but for these, up to:"
        yield ""
        yield from _table(["mechanism", *_DTYPES, "first to break"], rows)
    else:
        yield f"Outputs and gradients were finite in all cases, of all {len(forms)} forms."
    yield ""
    yield (
        "As above, what float64 knows to be larger than the dtype's largest number does not count. "
        "Finite is not precise: of scores of 1e20 the rounding alone is 1e13, so which key a "
        "softmax then chooses is chance, and what a norm squares may vanish in float32 without a "
        "trace in the output."
    )
    yield ""
    yield (
        "Layers of float16 are computed in float32, and stop at the largest number of float16; on "
        "processors, where this was seen. Another one stops where what it projects, or multiplies "
        "with a gate, is no number of float16; inside of a model, norms keep tokens far below."
    )


def _stopped_by(line: Line) -> str:
    cases = line.get("stopped_by", {})
    return "; ".join(dict.fromkeys(cases[d] for d in _DTYPES if d in cases)) or "-"


_ELSEWHERE = """## On other devices and in compiled graphs

There nothing is computed once more: a look at what came out would wait for a device, and a graph
cannot branch on it. So operators are left to themselves, and these are their limits: the same
inputs as in the section before, given to the plain forms on a processor. Outputs and gradients were
finite up to the magnitudes on the left. Kernels of other devices may have other limits. What calls
torch's fused kernel for processors ends where that one's backward pass does, of which more above.

"""


def _finite_elsewhere(forms: Sequence[Line]) -> Iterator[str]:
    """One row for all that have the same limits."""
    alike: dict[tuple[float | None, ...], list[str]] = {}
    for line in forms:
        reached = line.get("finite_to_elsewhere")
        if reached:
            alike.setdefault(tuple(reached.get(d) for d in _DTYPES), []).append(_name(line))
    yield _row([*_DTYPES, "mechanisms"])
    yield _row(["---:"] * len(_DTYPES) + ["---"])
    for magnitudes in sorted(alike, key=lambda each: [x or 0.0 for x in each]):
        cells = ["-" if x is None else f"{x:g}" for x in magnitudes]
        yield _row([*cells, "; ".join(alike[magnitudes])])


_GIVES = """## What comes out

In float32, of the last token, which sees all keys in a causal form as well. *The mean of v* is
what is right where nothing tells keys apart; *zeros* where nothing is seen, or where a query
without a direction has no features.

"""


def _gives(forms: Sequence[Line]) -> Iterator[str]:
    cases = (
        *("a zero query", "all queries zero", "all keys zero", "all zero"),
        *("one token everywhere", "norm 1e-6", "all keys hidden"),
    )
    short = {"a finite number": "finite"}
    rows = [
        [_name(line), *(short.get(g := line["gives"].get(case, "-"), g) for case in cases)]
        for line in forms
        if "a zero query" in line["gives"]
    ]
    return _table(["core", *cases], rows)


_THEIRS = """## Where the authors' operators give NaN

The operators of the authors' code, written as functions and run wholly in the dtype of their
inputs, as a model in half precision runs them; ours beside them on the same inputs, by the same
command. Their source is named in the docstrings of `attentions/_official.py`; `tests/golden`
holds what the float64 originals gave for such inputs. D = 16, two heads.

"""


def _theirs(lines: Sequence[Line]) -> Iterator[str]:
    rows = [
        [
            *(str(line[key]) for key in ("mechanism", "case", "dtype", "seq_len")),
            line["theirs"] or "finite",
            line["ours"] or "finite",
        ]
        for line in lines
    ]
    return _table(["mechanism", "input", "dtype", "N", "theirs", "ours"], rows)
