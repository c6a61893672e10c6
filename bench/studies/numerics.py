"""Errors of narrow dtypes against float64, and where outputs stop being finite.

Findings of mechanisms, ours and the authors' operators, are kept in files, and docs/numerics.md is
made of those alone.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from attentions.capabilities import PUBLISHED
from attentions.catalogue import catalogue
from attentions.testing.forms import Form, build, gradients, has_gradients, inputs, name_of
from attentions.testing.hard_inputs import Inputs, hard_inputs, of_norm
from bench.core.cli.errors import ConfigError
from bench.core.cli.files import write_whole
from bench.core.cli.stored_files import regular_files
from bench.core.clock import utc_now
from bench.core.format import join_names, quantity
from bench.core.grouping import grouped
from bench.core.lines import Lines
from bench.core.places import CHECKOUT
from bench.core.rows import ON_REQUEST
from bench.publishing.charts.write import write_pictures
from bench.publishing.document import markdown_table
from bench.publishing.templates import prose
from bench.studies import state_precision

DTYPES = (torch.float32, torch.bfloat16, torch.float16)
NAMES = tuple(map(name_of, DTYPES))
PAGE = "numerics.md"
COMMAND = "attnbench verify numerics=true"
PLAIN, LARGE = "unit normal", "norm 50"
"""Kinds of inputs on which errors are measured."""
HIDDEN = "all keys hidden"
"""A kind of its own: unit-normal inputs under a key mask that hides every key."""
NUM_HEADS, HEAD_DIM = 1, 32
SEQ_LEN = 1024
"""Tokens on which errors are measured."""
HARD_LEN = 64
"""An 8 x 8 grid. What is hard about hard inputs does not depend on the length."""


@dataclass(frozen=True, kw_only=True)
class Findings:
    """Findings about one form.

    Attributes:
        is_published: whether it is the authors' operators.
        errors: dtype -> input -> largest error over the largest output, both over all tokens; None
            if the output was not finite.
        broken: dtype -> hard inputs on which an output or a gradient was not finite.
        ends: dtype -> the largest norm of 1, 2, 4, … up to which outputs and gradients are finite;
            zero if they are not at 1, None if they are over the whole range of the dtype.
        states: errors of a state in a narrow dtype; empty for other mechanisms than those of
            `state_precision`.
    """

    mechanism: str
    causal: bool
    is_published: bool
    tested_at: str
    torch: str
    errors: dict[str, dict[str, float | None]] = field(default_factory=dict)
    broken: dict[str, list[str]] = field(default_factory=dict)
    ends: dict[str, float | None] = field(default_factory=dict)
    states: state_precision.States = field(default_factory=dict)

    @property
    def failures(self) -> list[str]:
        """A line per input on which something of ours was not finite."""
        if self.is_published:
            return []
        form = f"{self.mechanism}, causal" if self.causal else self.mechanism
        lost = {
            dtype: [case for case, error in errors.items() if error is None]
            for dtype, errors in self.errors.items()
        }
        cases = [(dtype, case) for found in (lost, self.broken) for dtype in found
                 for case in found[dtype]]  # fmt: skip
        return [f"{form}, {dtype}, {case}: not finite" for dtype, case in dict.fromkeys(cases)]


def findings_of(form: Form) -> Findings:
    """Measure one form.

    Raises:
        Untestable: it cannot be built here.
    """
    found = Findings(
        mechanism=form.name,
        causal=form.causal,
        is_published=form.is_published,
        tested_at=utc_now(),
        torch=torch.__version__,
    )
    long, short = _build(form, SEQ_LEN), _build(form, HARD_LEN)
    # All for a published core, as a model in half precision runs it in them.
    takes_all = form.is_published and form.is_core
    for dtype in (d for d in DTYPES if takes_all or name_of(d) in form.can.dtypes):
        plain = inputs(long, batch_size=1)
        found.errors[name_of(dtype)] = {
            case: error_in(dtype, long, tensors, is_bare=form.is_published)
            for case, tensors in ((PLAIN, plain), (LARGE, of_norm(plain, 50.0)))
        }
        found.broken[name_of(dtype)] = list(_broken(form, short, dtype))
        found.ends[name_of(dtype)] = _end(form, short, dtype)
    if form.causal and form.name in state_precision.MECHANISMS:
        found.states.update(state_precision.state_errors(_build(form, state_precision.SEQ_LEN)))
    return found


def _build(form: Form, seq_len: int) -> Any:
    torch.manual_seed(0)
    return build(form, num_heads=NUM_HEADS, seq_len=seq_len, head_dim=HEAD_DIM, value_dim=HEAD_DIM)


def _call_of(mechanism: Any, is_bare: bool) -> Callable[..., Tensor]:
    """Function to call; if `is_bare`, as for published code, `forward`, which checks no dtypes."""
    call: Callable[..., Tensor] = mechanism.forward if is_bare else mechanism
    return call


@torch.no_grad()
def error_in(
    dtype: torch.dtype, mechanism: Any, tensors: Inputs, *, is_bare: bool = False
) -> float | None:
    """The largest error over the largest output, both over all tokens; None if not finite.

    Against float64 with inputs and weights as the dtype rounds them: only the arithmetic differs.

    Args:
        dtype: to run in.
        mechanism: of any dtype; it is copied.
        tensors: its inputs, of any dtype.
        is_bare: whether `forward` is called in the narrow dtype, without the checks around it.
    """
    narrow = copy.deepcopy(mechanism).to(dtype)
    wide = copy.deepcopy(narrow).double()
    given = [x.to(dtype) for x in tensors]
    return _error(_call_of(narrow, is_bare)(*given), wide(*(x.double() for x in given)))


def _error(out: Tensor, expected: Tensor) -> float | None:
    if not bool(out.isfinite().all()):
        return None
    largest = float(expected.abs().max())
    error = float((out.double() - expected).abs().max())
    return float(f"{error / largest if largest else error:.2e}")


def _broken(form: Form, mechanism: Any, dtype: torch.dtype) -> Iterator[str]:
    plain = inputs(mechanism, batch_size=1)
    call, learned = _narrow(form, mechanism, dtype)
    for case, tensors in hard_inputs(plain, dtype).items():
        if not is_finite(call, _to(tensors, dtype), learned):
            yield case
    if "padding" in mechanism.capabilities.masks:
        nothing = torch.zeros(1, HARD_LEN, dtype=torch.bool)
        if not is_finite(call, _to(plain, dtype), learned, key_mask=nothing):
            yield HIDDEN


def _end(form: Form, mechanism: Any, dtype: torch.dtype) -> float | None:
    plain = inputs(mechanism, batch_size=1)
    call, learned = _narrow(form, mechanism, dtype)
    reached, norm = 0.0, 1.0
    while True:
        given = _to(of_norm(plain, norm), dtype)
        if not all(bool(x.isfinite().all()) for x in given):
            return None
        if not is_finite(call, given, learned):
            return reached
        reached, norm = norm, 2 * norm


def _narrow(
    form: Form, mechanism: Any, dtype: torch.dtype
) -> tuple[Callable[..., Tensor], list[Tensor] | None]:
    """A call in a dtype, and the weights that gradients are taken of; None if there are none."""
    narrow = copy.deepcopy(mechanism).to(dtype)
    learned = [p for p in narrow.parameters() if p.requires_grad]
    return _call_of(narrow, form.is_published), learned if has_gradients(mechanism) else None


def _to(tensors: Inputs, dtype: torch.dtype) -> Inputs:
    return tuple(x.double().to(dtype) for x in tensors)


def is_finite(
    call: Callable[..., Tensor], given: Inputs, learned: list[Tensor] | None, **masks: Tensor
) -> bool:
    """Whether outputs, with and without autograd, and gradients of inputs and weights are finite.

    Args:
        call: the mechanism.
        given: its inputs.
        learned: weights that gradients are taken of; without any gradients if None.
        masks: passed to the call.
    """
    with torch.no_grad():
        results = [call(*given, **masks)]
    if learned is not None:
        tensors = [x.clone().requires_grad_() for x in given]
        out = call(*tensors, **masks)
        results.append(out.detach())
        if out.requires_grad:
            results += gradients(out, [*tensors, *learned])
    return all(bool(x.isfinite().all()) for x in results)


# --- files and the page --------------------------------------------------------------------------


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
    is_ours = out.resolve() == CHECKOUT / "results"
    return (CHECKOUT / "docs" if is_ours else folder_of(out)) / PAGE


def states_of(found: Sequence[Findings]) -> dict[str, state_precision.States]:
    """Errors of states in narrow dtypes, by mechanism."""
    return {each.mechanism: each.states for each in found if each.states}


def write_page(out: Path) -> list[Path]:
    """Write the page of all stored findings, and its picture; returns their paths.

    Raises:
        ConfigError: there are no findings, or a file cannot be written.
    """
    found, page = read_findings(out), path_of(out)
    drawn = [state_precision.chart(states)] if (states := states_of(found)) else []
    written = write_whole(page, page_of(found))
    pictures = write_pictures(drawn, page.with_suffix(""))
    return [written, *(page.parent / one.path for one in pictures)]


def page_of(found: Sequence[Findings]) -> str:
    """The whole page."""
    ours, theirs = (
        grouped((each for each in found if each.is_published is kind), lambda each: each.mechanism)
        for kind in (False, True)
    )
    versions = " and ".join(sorted({each.torch for each in found}))
    days = join_names(sorted({each.tested_at[:10] for each in found}))
    facts = {"torch": versions, "days": days, "command": COMMAND, "seq_len": f"{SEQ_LEN:,}"}
    facts |= {"num_heads": str(NUM_HEADS), "head_dim": str(HEAD_DIM), "hard_len": str(HARD_LEN)}
    head = [f"error, {d}" for d in NAMES] + [f"finite to, {d}" for d in NAMES]
    rows = [
        [name, *(_largest(forms, d) for d in NAMES), *(_finite_to(forms, d) for d in NAMES)]
        for name, forms in ours.items()
    ]
    parts = [prose(__file__, "introduction", **facts), "\n\n", _table(["mechanism", *head], rows)]
    on_a_cpu = (entry for entry in catalogue() if "cpu" in entry.capabilities.devices)
    wanted = [e.name for e in on_a_cpu if e.family != PUBLISHED and e.name not in ON_REQUEST]
    if missing := [name for name in wanted if name not in ours]:
        parts.append(f"\nNot measured: {', '.join(missing)}.\n")
    failures = [line for forms in ours.values() for form in forms for line in form.failures]
    parts += ["\n", prose(__file__, "finite", **facts), "\n\n"]
    parts += [f"- {line.removesuffix(': not finite')}\n" for line in failures]
    if not failures:
        parts.append(f"none of {quantity(len(ours), 'mechanism')}.\n")
    if theirs:
        parts += ["\n", prose(__file__, "published"), "\n\n", _beside(ours, theirs)]
    if states := states_of(found):
        path = f"{Path(PAGE).stem}/{state_precision.PICTURE}.svg"
        parts += ["\n", state_precision.section(states, path, COMMAND)]
    return "".join(parts)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return markdown_table(head, rows, "l" + "r" * (len(head) - 1)) + "\n"


def _largest(forms: Sequence[Findings], dtype: str) -> str:
    """Largest error of all forms, on unit-normal inputs and on large ones."""
    claimed = [form.errors[dtype] for form in forms if dtype in form.errors]
    if not claimed:
        return "-"
    return " / ".join(_worst([errors[case] for errors in claimed]) for case in (PLAIN, LARGE))


def _worst(errors: Sequence[float | None]) -> str:
    known = [error for error in errors if error is not None]
    return f"{max(known):.0e}" if len(known) == len(errors) else "not finite"


def _finite_to(forms: Sequence[Findings], dtype: str) -> str:
    claimed = [form.ends[dtype] for form in forms if dtype in form.ends]
    if not claimed:
        return "-"
    ends = [end for end in claimed if end is not None]
    return f"{min(ends):.0e}" if ends else "all"


def _beside(ours: dict[str, list[Findings]], theirs: dict[str, list[Findings]]) -> str:
    rows = []
    for name, forms in theirs.items():
        mine = ours.get(name.removesuffix("_published"), [])
        ends = [f"{_finite_to(mine, dtype)} / {_finite_to(forms, dtype)}" for dtype in NAMES]
        rows.append([name.removesuffix("_published"), *ends, _broken_on(forms)])
    rows.sort()
    head = ["mechanism", *(f"finite to, {d}" for d in NAMES), "published: not finite on"]
    return _table(head, rows)


def _broken_on(forms: Sequence[Findings]) -> str:
    """Inputs, by the dtypes in which they break, such as ``a zero query; float16: norm 1e-06``."""
    by_case: dict[str, list[str]] = {}
    for form in forms:
        for dtype, cases in form.broken.items():
            for case in cases:
                by_case.setdefault(case, []).append(dtype)
    by_dtypes = grouped(by_case, lambda case: tuple(dict.fromkeys(by_case[case])))
    parts = [
        f"{'' if len(dtypes) == len(NAMES) else ' and '.join(dtypes) + ': '}{', '.join(cases)}"
        for dtypes, cases in by_dtypes.items()
    ]
    return "; ".join(parts) or "-"
