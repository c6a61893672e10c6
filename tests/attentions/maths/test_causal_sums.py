import pytest
import torch

from attentions.maths.causal_sums import causal_sums, causal_sums_flops, with_ones
from tests.attentions.calls import call_of


def by_hand(phi_q, phi_k, v):
    """Key by key, from the first to the query's own."""
    out = torch.zeros(*phi_q.shape[:3], v.shape[-1], dtype=v.dtype)
    for i in range(phi_q.shape[2]):
        for j in range(i + 1):
            weight = (phi_q[:, :, i] * phi_k[:, :, j]).sum(dim=-1, keepdim=True)
            out[:, :, i] += weight * v[:, :, j]
    return out


@pytest.mark.parametrize("seq_len", [1, 5, 128, 131])
def test_it_sums_over_earlier_keys_and_the_querys_own(seq_len, qkv):
    phi_q, phi_k, v = qkv(2, 2, seq_len, 3, value_dim=2)
    sums, context = causal_sums(phi_q, phi_k, v)
    torch.testing.assert_close(sums, by_hand(phi_q, phi_k, v))
    torch.testing.assert_close(context, phi_k.transpose(-2, -1) @ v)


def test_it_goes_on_where_it_stopped(qkv):
    tensors = qkv(1, 2, 270, 3, value_dim=2)
    whole, context = causal_sums(*tensors)
    so_far, first = None, []
    for part in zip(*(x.split([1, 140, 129], dim=2) for x in tensors), strict=True):
        sums, so_far = causal_sums(*part, so_far)
        first.append(sums)
    torch.testing.assert_close(torch.cat(first, dim=2), whole)
    torch.testing.assert_close(so_far, context)


def test_a_column_of_ones_sums_the_weights(qkv):
    phi_q, phi_k, v = qkv(1, 1, 6, 3)
    weights = (phi_q @ phi_k.transpose(-2, -1)).tril()
    sums, _ = causal_sums(phi_q, phi_k, with_ones(v))
    torch.testing.assert_close(sums[..., -1], weights.sum(dim=-1))
    torch.testing.assert_close(sums[..., :-1], weights @ v)


def test_costs_are_linear_in_the_number_of_whole_chunks():
    def shape(chunks):
        length = 128 * chunks
        return call_of(length, 4, 3, batch_size=2, num_heads=3, causal=True)

    assert causal_sums_flops(shape(8), 4, 3) == 4 * causal_sums_flops(shape(2), 4, 3)
