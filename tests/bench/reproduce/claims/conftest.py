"""A lab that trains nothing: scores are given."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from bench.reproduce.claims import Lab

Scores = Callable[[str, dict[str, Any]], list[float]]


class GivenLab(Lab):
    """`scores` gives what a function of the row's name and the settings says."""

    def given(self, scores: Scores) -> GivenLab:
        object.__setattr__(self, "_scores", scores)
        return self

    def scores(self, rows: Any, task: str, settings: Any, seeds: Any, plugins: Any = ()) -> Any:
        return {name: self._scores(name, settings) for name in rows}  # type: ignore[attr-defined]


@pytest.fixture
def lab(tmp_path: Path) -> GivenLab:
    return GivenLab(tmp_path, "sweep", Console(file=io.StringIO()))
