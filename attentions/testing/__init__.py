"""Checks of attention mechanisms for pytest: what they claim, and their authors' numbers.

A file of three lines tests a mechanism::

    import my_attention  # registers it
    from attentions.testing import checks_of

    test_my_attention = checks_of("my_attention")

and so does ``pytest --pyargs attentions.testing --attention my_attention -p my_attention``.

`suite` lists the claims, a file of `checks/` has those of one family, `check` defines a check,
`forms` builds a mechanism and its inputs, `tolerances` is the table of allowed errors, `authors`
compares with golden files, and `flops` proves FLOP formulas. `plugin` has the options of pytest.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

__all__ = ["checks_of"]


def checks_of(
    name: str, *, settings: Mapping[str, Any] | None = None, goldens: Path | None = None
) -> Callable[..., None]:
    """A test function for pytest, parametrised by every check that applies to a mechanism.

    Args:
        name: as registered.
        settings: hyperparameters in place of the defaults.
        goldens: folder of golden files; those of this package if None.

    Raises:
        ValueError: no such mechanism, or no golden files in that folder.
    """
    import pytest

    from .authors.cases import Goldens
    from .run import run
    from .suite import cases_of

    cases = [*cases_of(name, settings=settings, goldens=Goldens(goldens))]
    return pytest.mark.parametrize("case", cases, ids=[case.id for case in cases])(run)
