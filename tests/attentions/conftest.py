"""Fixtures of every test of a mechanism: one thread, one seed, and tensors by shape."""

import pytest
import torch

from attentions.testing.checks import graphs


@pytest.fixture(autouse=True)
def _one_thread_and_a_seed(one_thread):
    torch.manual_seed(0)


@pytest.fixture
def qkv():
    """``qkv(B, H, N, D)`` makes float64 q, k and v; M and E may differ from N and D."""

    def make(batch_size, num_heads, seq_len, head_dim, *, key_len=None, value_dim=None):
        key_len, value_dim = key_len or seq_len, value_dim or head_dim
        sizes = ((seq_len, head_dim), (key_len, head_dim), (key_len, value_dim))
        return tuple(
            torch.randn(batch_size, num_heads, *size, dtype=torch.float64) for size in sizes
        )

    return make


@pytest.fixture
def no_tracing_of_gradients(monkeypatch):
    """One graph of the forward pass, run as it is: a quarter of the time of the check itself."""
    monkeypatch.setattr(graphs, "BACKEND", "eager")
