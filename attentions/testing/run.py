"""Run one case in pytest."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from .forms import Untestable
from .suite import CheckCase


def run(case: CheckCase, record_property: Callable[[str, object], None]) -> None:
    """Run a case on one thread, as tensors are so small that threads would only wait."""
    __tracebackhide__ = True
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        case.run(record_property)
    except Untestable as why:
        pytest.skip(str(why))
    finally:
        torch.set_num_threads(threads)
