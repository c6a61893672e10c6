"""One check of one claim: when it applies, its cases, and how it reports a failure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .forms import Form
from .forms import Untestable as Untestable

Applies = Callable[[Form], bool]
Run = Callable[..., None]
Record = Callable[[str, object], None]


class Broken(AssertionError):
    """A claim does not hold; the message says what was seen."""


@dataclass(frozen=True, kw_only=True)
class Check:
    """A function that raises `Broken` if a claim does not hold; see `check`.

    Attributes:
        claim: the claim that it tests, one of `suite.CLAIMS`.
        run: called as ``run(form, *case)``.
        applies: whether a form makes the claim.
        cases: what it is run with; one empty case unless it has parameters.
        per_form: whether every form is checked, or only the one that stands for the mechanism.
        earns: whether a pass counts towards the badge. A check of what a mechanism must do that
            does *not* claim something, such as to refuse it, does not count.
        needs_card: whether it needs an accelerator.
        records: whether `run` takes a function ``record(name, facts)`` as its last argument, for
            numbers that the report keeps beside the outcome.
    """

    claim: str
    run: Run
    applies: Applies
    cases: tuple[tuple[Any, ...], ...] = ((),)
    per_form: bool = True
    earns: bool = True
    needs_card: bool = False
    records: bool = False

    @property
    def name(self) -> str:
        """Name of the function: a sentence, with underscores."""
        return self.run.__name__

    def is_for(self, form: Form) -> bool:
        """True if the check applies to a form."""
        return (self.per_form or form.is_first) and self.applies(form)

    def __call__(
        self, form: Form, case: tuple[Any, ...], record: Record = lambda name, facts: None
    ) -> None:
        """Run one case from one seed.

        Raises:
            Broken, or whatever the mechanism raises: the claim does not hold.
            Untestable: it cannot be tested here.
        """
        __tracebackhide__ = True  # pytest shows the check itself
        if self.needs_card and card() is None:
            raise Untestable("there is no CUDA device")
        torch.manual_seed(0)
        self.run(form, *case, *([record] if self.records else []))


def card() -> torch.device | None:
    """The accelerator of this machine; None if there is none."""
    return torch.accelerator.current_accelerator(check_available=True)


def always(_: Form) -> bool:
    """Apply a check to every form of every mechanism."""
    return True


CHECKS: list[Check] = []
"""All registered checks, in the order of registration."""


def check(claim: str, applies: Applies = always, **others: Any) -> Callable[[Run], Run]:
    """Register the decorated function as a check of a claim; stacked decorators from the lowest on.

    Args:
        claim: see `Check`.
        applies: likewise.
        others: other fields of a `Check`.
    """

    def enter(run: Run) -> Run:
        CHECKS.append(Check(claim=claim, run=run, applies=applies, **others))
        return run

    return enter


def require(holds: bool | Tensor, otherwise: str) -> None:
    """Raise `Broken` unless something holds."""
    if not bool(holds):
        raise Broken(otherwise)


def require_refusal(call: Callable[[], object], kind: type[Exception], words: str) -> None:
    """Raise `Broken` unless a call raises this kind of error, with these words in it."""
    try:
        call()
    except kind as error:
        require(words in str(error), f"is refused without saying {words!r}: {error}")
        return
    raise Broken(f"is not refused with a {kind.__name__} that says {words!r}")
