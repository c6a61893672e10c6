"""A place in the registry for mechanisms that lie."""

from dataclasses import replace

import pytest
import torch

import attentions
from attentions import registry


@pytest.fixture(autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def register(monkeypatch):
    """Enter a child of a sound mechanism, with other members and claims, for one test."""
    attentions.attention_names()
    monkeypatch.setattr(registry, "_REGISTRY", dict(registry._REGISTRY))

    def enter(sound, claims=None, **members):
        base = attentions.attention_class(sound)
        can = replace(base.capabilities, **(claims or {}))
        cls = type("Liar", (base,), members)
        registry.register_attention("liar", title="T", source="S", capabilities=can)(cls)
        return "liar"

    return enter
