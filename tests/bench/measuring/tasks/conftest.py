"""Shared by tests of tasks: one thread, a cell by its settings, mechanisms for the occasion."""

import pytest

from attentions import Attention, Capabilities, registry
from bench.core.cell import Cell, TaskWorkload


@pytest.fixture(autouse=True)
def _one_thread(one_thread):
    pass


@pytest.fixture
def cell(monkeypatch):
    """``cell("softmax", "recall", seed=1, num_steps=5)``, which is scored on few examples."""
    monkeypatch.setattr("bench.measuring.tasks.train.NUM_ANSWERS", 64)
    monkeypatch.setattr("bench.measuring.tasks.train.NUM_TRAINED", 64)

    def make(mechanism, task, *, seed=0, dtype="float32", **settings):
        workload = TaskWorkload(label=task, task=task, settings=settings, seed=seed, dtype=dtype)
        return Cell(
            entry=mechanism,
            mechanism=mechanism,
            hyperparameters={},
            device="cpu",
            num_threads=1,
            workload=workload,
        )

    return make


@pytest.fixture
def mechanism(own_registry):
    """``mechanism("name", forward)`` registers a core for the length of one test."""

    def make(name, forward, init=None):
        class Core(Attention):
            def __init__(self, geometry):
                super().__init__(geometry)
                if init is not None:
                    init(self)

            def forward(self, q, k, v):
                return forward(self, q, k, v)

            def flops(self, shape):
                return 0

        registry.register_attention(name, title=name, source="-", capabilities=Capabilities())(Core)
        return name

    return make
