"""Cores that only the comparison needs leave the registry after each test."""

import sys

import pytest

from attentions import registry
from bench.mechanisms.forms import CORES


@pytest.fixture(autouse=True)
def own_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    registry.attention_names()  # all that registers once only does so before the copy is made
    monkeypatch.setattr(registry, "_REGISTRY", dict(registry._REGISTRY))
    for _, module in CORES.values():
        monkeypatch.delitem(sys.modules, module, raising=False)
