"""What every test of a mechanism shares: one thread, one seed, and tensors by shape."""

import pytest
import torch

from attentions import _engine_functions, _engine_nala_cosine, _engine_tiles


@pytest.fixture(autouse=True)
def _one_thread_and_a_seed():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(threads)


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


@pytest.fixture(params=["wide", "wide by MKL", "halved", "narrow"])
def wide_vectors(request, monkeypatch):
    """Whether the engine cuts its work for vectors of 512 bits, whatever this processor has."""
    is_wide = request.param != "narrow"
    monkeypatch.setattr(_engine_tiles, "has_wide_vectors", lambda: is_wide)
    monkeypatch.setattr(_engine_tiles, "halves_wide_vectors", lambda: request.param == "halved")
    monkeypatch.setattr(_engine_tiles, "onednn_outruns_mkl", lambda **_: request.param == "wide")
    _engine_tiles.plan.cache_clear()
    yield is_wide
    _engine_tiles.plan.cache_clear()


@pytest.fixture(params=["MKL", "torch"])
def functions(request, monkeypatch):
    """Whose elementary functions the engine takes, whatever this processor is."""
    is_mkl = request.param == "MKL"
    for module in (_engine_functions, _engine_nala_cosine):
        monkeypatch.setattr(module, "mkl_is_faster", lambda: is_mkl)
    return request.param


@pytest.fixture(params=[1, 2])
def one_and_two_threads(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield
    torch.set_num_threads(before)
