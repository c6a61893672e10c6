"""For tests that ask many mechanisms, in a loop, to refuse something."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator

import pytest


@contextlib.contextmanager
def refused(said: str) -> Iterator[None]:
    """As `pytest.raises`, whose failure says what was to be refused."""
    __tracebackhide__ = True
    try:
        yield
    except ValueError as error:
        assert re.search(said, str(error)), f"expected {said!r}, got: {error}"
    else:
        pytest.fail(f"nothing was refused; expected {said!r}")
