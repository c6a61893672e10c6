"""A registry of each test's own; KernelCore with small tiles, and by the plain formula."""

import pytest

from attentions.engines import kernel
from attentions.kernel import causal, tiles


@pytest.fixture(autouse=True)
def _own_registry(own_registry):
    pass


@pytest.fixture
def small_tiles(monkeypatch):
    """Tiles of 64 tokens and chunks of 16, so that small tensors have several of them."""
    monkeypatch.setattr(tiles, "TOKENS", 64)
    monkeypatch.setattr(causal, "CHUNK", 16)


@pytest.fixture
def plainly(monkeypatch):
    """Calls a core by the plain formula."""

    def call(core, *inputs, **keywords):
        with monkeypatch.context() as patch:
            patch.setattr(kernel, "_is_tiled", lambda *tensors: False)
            return core(*inputs, **keywords)

    return call
