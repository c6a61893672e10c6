import pytest
import torch

from attentions import _token_products
from attentions._token_products import mix_tokens


@pytest.mark.parametrize("batch_size", [1, 3])
@pytest.mark.parametrize("num_tokens", [64, 128, 5])
def test_a_mix_and_its_gradients_are_those_of_the_product(batch_size, num_tokens):
    rows = torch.randn(num_tokens, 7, requires_grad=True)
    tokens = torch.randn(batch_size, num_tokens, 6, requires_grad=True)
    grad = torch.randn(batch_size, 7, 6)
    found = []
    for mixed in (mix_tokens(rows, tokens), rows.T @ tokens):
        found.append((mixed, *torch.autograd.grad(mixed, (rows, tokens), grad)))
    for got, expected in zip(*found, strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4)


def test_gradients_of_gradients_are_there():
    rows, tokens = torch.randn(64, 2, requires_grad=True), torch.randn(2, 64, 3, requires_grad=True)
    found = []
    for mixed in (mix_tokens(rows, tokens), rows.T @ tokens):
        first = torch.autograd.grad(mixed.square().sum(), (rows, tokens), create_graph=True)
        found.append(torch.autograd.grad(sum(x.square().sum() for x in first), (rows, tokens)))
    for got, expected in zip(*found, strict=True):
        torch.testing.assert_close(
            got, expected, rtol=1e-3, atol=1e-3 * float(expected.abs().max())
        )


def test_only_whole_blocks_of_tokens_in_float32_are_mixed_by_hand(monkeypatch):
    seen = []

    class Recorded:
        @staticmethod
        def apply(rows, tokens):
            seen.append(tokens.dtype)
            return rows.T @ tokens

    monkeypatch.setattr(_token_products, "_Mix", Recorded)
    monkeypatch.setattr(_token_products, "has_fast_linear", lambda x: x.dtype == torch.float32)
    for num_tokens, dtype in ((64, torch.float32), (65, torch.float32), (64, torch.float64)):
        mix_tokens(
            torch.randn(num_tokens, 2, dtype=dtype), torch.randn(1, num_tokens, 3, dtype=dtype)
        )
    assert seen == [torch.float32]
