"""A check for tests in which many mechanisms, in a loop, have to refuse something."""

import contextlib
import re
from collections.abc import Iterator

import pytest


@contextlib.contextmanager
def refused(said: str) -> Iterator[None]:
    """Like `pytest.raises` of a ValueError, but a failure names the expected message."""
    __tracebackhide__ = True
    try:
        yield
    except ValueError as error:
        assert re.search(said, str(error)), f"expected {said!r}, got: {error}"
    else:
        pytest.fail(f"nothing was refused; expected {said!r}")
