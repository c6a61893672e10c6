"""Fixtures of tests of studies."""

import pytest


@pytest.fixture(autouse=True)
def looks_are_short(monkeypatch):
    """Models that are trained in this process are scored on few examples on the way."""
    monkeypatch.setattr("bench.measuring.tasks.train.NUM_ANSWERS", 64)
    monkeypatch.setattr("bench.measuring.tasks.train.NUM_TRAINED", 64)
