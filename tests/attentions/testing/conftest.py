"""A place in the registry for mechanisms that lie."""

from dataclasses import replace

import pytest

import attentions
from attentions import registry


@pytest.fixture(autouse=True)
def _one_thread(one_thread):
    pass


@pytest.fixture
def register(own_registry):
    """Enter a child of a sound mechanism, with other members and claims, for one test."""

    def enter(sound, claims=None, **members):
        base = attentions.attention_class(sound)
        can = replace(base.capabilities, **(claims or {}))
        cls = type("Liar", (base,), members)
        registry.register_attention("liar", title="T", source="S", capabilities=can)(cls)
        return "liar"

    return enter
