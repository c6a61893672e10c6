"""Findings about narrow dtypes and hard inputs: their files, and docs/numerics.md made of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from attentions.capabilities import PUBLISHED
from attentions.catalogue import catalogue
from bench.core.cli.errors import ConfigError
from bench.core.cli.stored_files import regular_files
from bench.core.format import join_names, quantity
from bench.core.grouping import grouped
from bench.core.lines import Lines
from bench.core.places import CHECKOUT
from bench.core.rows import ON_REQUEST
from bench.publishing.document import markdown_table
from bench.publishing.templates import prose
from bench.studies.numerics.measure import (
    HARD_LEN,
    HEAD_DIM,
    LARGE,
    NUM_HEADS,
    PLAIN,
    SEQ_LEN,
    Findings,
)

PAGE = "numerics.md"
COMMAND = "attnbench verify numerics=true"
_DTYPES = ("float32", "bfloat16", "float16")
_SUFFIX = "_published"


def folder_of(out: Path) -> Path:
    """The folder ``<out>/numerics``."""
    return out / "numerics"


def lines_of(out: Path, name: str) -> Lines[Findings]:
    """File of a mechanism's findings, ``<out>/numerics/<name>.jsonl``, one line per form."""
    return Lines[Findings](folder_of(out) / f"{name}.jsonl", Findings, mend="Delete it.")


def read_findings(out: Path) -> list[Findings]:
    """All stored findings, sorted by mechanism.

    Raises:
        ConfigError: there are none, or a file does not hold findings.
    """
    files = regular_files(out, "numerics/*.jsonl")
    found = [one for file in files for one in lines_of(out, file.stem).read()]
    if not found:
        raise ConfigError(
            f"There are no findings under {folder_of(out)}; make them with {COMMAND}."
        )
    return found


def path_of(out: Path) -> Path:
    """The page of this checkout if `out` is its results/, else one beside the findings."""
    root = CHECKOUT
    if out.resolve() == root / "results":
        return root / "docs" / PAGE
    return folder_of(out) / PAGE


def page_of(found: Sequence[Findings]) -> str:
    """The whole page."""
    ours = grouped((each for each in found if not each.is_published), lambda each: each.mechanism)
    theirs = grouped((each for each in found if each.is_published), lambda each: each.mechanism)
    versions = " and ".join(sorted({each.torch for each in found}))
    days = join_names(sorted({each.tested_at[:10] for each in found}))
    facts = {"torch": versions, "days": days, "command": COMMAND, "seq_len": f"{SEQ_LEN:,}"}
    facts |= {"num_heads": str(NUM_HEADS), "head_dim": str(HEAD_DIM), "hard_len": str(HARD_LEN)}
    parts = [prose(__file__, "introduction", **facts), "\n\n", _overview(ours)]
    parts += _not_measured(ours)
    parts += ["\n", prose(__file__, "finite", **facts), "\n\n", *_failures(ours)]
    if theirs:
        parts += ["\n", prose(__file__, "published"), "\n\n", _beside(ours, theirs)]
    return "".join(parts)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return markdown_table(head, rows, "l" + "r" * (len(head) - 1)) + "\n"


def _overview(ours: dict[str, list[Findings]]) -> str:
    head = ["mechanism", *(f"error, {d}" for d in _DTYPES), *(f"finite to, {d}" for d in _DTYPES)]
    rows = [
        [name, *(_error(forms, d) for d in _DTYPES), *(_end(forms, d) for d in _DTYPES)]
        for name, forms in ours.items()
    ]
    return _table(head, rows)


def _not_measured(ours: dict[str, list[Findings]]) -> Iterator[str]:
    """A paragraph of the mechanisms that run on a CPU and have no findings; none if all have."""
    names = [
        entry.name
        for entry in catalogue()
        if entry.family != PUBLISHED
        and entry.name not in ON_REQUEST
        and "cpu" in entry.capabilities.devices
    ]
    missing = [name for name in names if name not in ours]
    if missing:
        yield f"\nNot measured: {', '.join(missing)}.\n"


def _error(forms: Sequence[Findings], dtype: str) -> str:
    """Largest error of all forms, on unit-normal inputs and on large ones."""
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
    yield from (f"- {line.removesuffix(': not finite')}\n" for line in lines)
    if not lines:
        yield f"none of {quantity(len(ours), 'mechanism')}.\n"


def _beside(ours: dict[str, list[Findings]], theirs: dict[str, list[Findings]]) -> str:
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
    by_dtypes = grouped(by_case, lambda case: tuple(dict.fromkeys(by_case[case])))
    parts = [
        f"{'' if len(dtypes) == len(_DTYPES) else ' and '.join(dtypes) + ': '}{', '.join(cases)}"
        for dtypes, cases in by_dtypes.items()
    ]
    return "; ".join(parts) or "-"
