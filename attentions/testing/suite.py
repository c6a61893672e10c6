"""All claims, their checks, and the tests of a mechanism: a case for each check of each form."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from . import check as registered
from . import checks
from .authors.cases import Goldens, golden_runs
from .check import Check, Record
from .forms import Form, forms_of

CLAIMS = {
    "shape": "shape and dtype are kept, whatever the strides; inputs are not modified",
    "any_shape": "equal to the reference at lengths and widths that no chunk divides",
    "batch": "rows of a batch are independent",
    "heads": "heads are independent",
    "order": "without positions, the order of keys does not matter",
    "forms": "only the forms that are claimed can be built, with the masks and gates claimed",
    "causal": "the future is invisible, to the bit",
    "cross": "the number of keys may differ from the number of queries",
    "padding": "hidden keys are as good as removed keys",
    "dense": "hidden pairs are as good as removed pairs",
    "recurrent": "steps equal the forward pass, however the prompt is split",
    "chunked_prefill": "a prompt cut anywhere gives what one pass gives",
    "prefix_reuse": "a state that is kept at any place can be continued twice",
    "rollback": "drafted tokens can be taken back, by a copy of the state before them",
    "batch_invariant": "a row gives the same alone and among others, in a pass and in steps",
    "padding_invariant": "padding on the left, in steps, or on the right changes nothing",
    "packed": "sequences in one row give what each gives alone",
    "train_equals_serve": "tokens one by one give what one pass gives",
    "exact": "it is softmax attention",
    "reference": "outputs and gradients equal the reference in float64",
    "gradients": "gradients equal finite differences in float64",
    "precision": "errors in half precision are those of rounding",
    "finite": "outputs and gradients are finite on zeros and on norms from 1e-6 to 1e3",
    "autocast": "runs under torch.autocast, forward and backward",
    "deterministic": "the same seed gives the same mechanism and output",
    "state_dict": "the state dict carries everything over",
    "meta": "output shapes can be computed on the meta device",
    "inference": "training works after a call under inference mode",
    "compile": "torch.compile captures it in one graph",
    "export": "torch.export captures it with a dynamic number of tokens",
    "flops": "the FLOP formula gives what torch counts",
    "cuda": "a CUDA device gives what the CPU gives",
}
"""Claim -> what it says."""

GOLDEN = "golden"
"""Claim of the cases that compare with the authors' numbers."""

for _module in pkgutil.iter_modules(checks.__path__):
    importlib.import_module(f"{checks.__name__}.{_module.name}")
CHECKS = tuple(
    sorted(
        registered.CHECKS,
        key=lambda one: ([*CLAIMS].index(one.claim), one.run.__module__),
    )
)
"""All checks, in the order of the claims."""


@dataclass(frozen=True, kw_only=True)
class CheckCase:
    """One test of a mechanism.

    Attributes:
        mechanism: as registered.
        form: id of the form, see `Form`.
        claim: one of `CLAIMS`, or `GOLDEN`.
        check: name of the check, or of the golden case.
        id: all of these and the parameters of the check, as pytest shows them.
        earns: whether a pass counts towards the claim, see `Check`.
        run: raises unless the claim holds; `Untestable` if it cannot be tested here.
    """

    mechanism: str
    form: str
    claim: str
    check: str
    id: str
    earns: bool
    run: Callable[[Record], None]


def cases_of(
    name: str, *, settings: Mapping[str, Any] | None = None, goldens: Goldens | None = None
) -> Iterator[CheckCase]:
    """All tests of a mechanism: golden cases first, then the checks in the order of the claims.

    Args:
        name: as registered.
        settings: hyperparameters in place of the defaults; golden cases have their own.
        goldens: golden files to compare with; those of this package if None.

    Raises:
        ValueError: no such mechanism, or no golden files in the folder that is named.
    """
    for golden, run in golden_runs(name, goldens or Goldens()):
        yield CheckCase(
            mechanism=name,
            form=name,
            claim=GOLDEN,
            check=golden,
            id=f"{name}-{GOLDEN}-{golden}",
            earns=True,
            run=run,
        )
    for form in forms_of(name, settings):
        for check, case in checks_for(form):
            words = (form.id, check.claim, check.name, *map(_word, case))
            yield CheckCase(
                mechanism=name,
                form=form.id,
                claim=check.claim,
                check=check.name,
                id="-".join(words),
                earns=check.earns,
                run=partial(check, form, case),
            )


def checks_for(form: Form) -> Iterator[tuple[Check, tuple[object, ...]]]:
    """Pairs of a check that applies to a form, and one of its cases."""
    for check in CHECKS:
        if check.is_for(form):
            for case in check.cases:
                yield check, case


def _word(parameter: object) -> str:
    """A parameter of a check in an id, such as ``float32`` or ``2x1x7x5x3``."""
    if isinstance(parameter, tuple):
        return "x".join(map(str, parameter))
    return (
        str(parameter).removeprefix("torch.")
        if isinstance(parameter, torch.dtype)
        else str(parameter)
    )
