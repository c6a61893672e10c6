"""The suite that pytest-benchmark runs in a rival's process. Not collected by the project's tests.

It imports pytest's fixtures by name only, so that it needs no import of pytest.
"""

from __future__ import annotations

from typing import Any

from bench.selftest.rival_child import Item, items


def pytest_generate_tests(metafunc: Any) -> None:
    """One benchmark per item."""
    found = items()
    metafunc.parametrize("item", found, ids=[item.name for item in found])


def test_item(benchmark: Any, item: Item) -> None:
    """Time it."""
    benchmark(item.call)
