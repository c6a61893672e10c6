import pytest
import torch

from attentions.kernel.causal import CHUNK, causal_sums, chunked, no_past


def features(length):
    return [torch.rand(2, 3, length, 5, dtype=torch.float64) for _ in range(3)]


def summed(phi_q, phi_k, v, *, divides=True):
    past, found = no_past(phi_k, v, divides=divides), []
    for tokens in chunked(phi_q.shape[2], 2 * CHUNK):
        sums, totals, past = causal_sums(*(x[:, :, tokens] for x in (phi_q, phi_k, v)), past)
        found.append((sums, totals))
    sums, totals = zip(*found, strict=True)
    return torch.cat(sums, dim=2), torch.cat(totals, dim=2) if divides else None, past


@pytest.mark.parametrize("length", [1, CHUNK - 1, CHUNK, CHUNK + 1, 5 * CHUNK])
def test_it_sums_over_earlier_keys_and_the_querys_own(length):
    phi_q, phi_k, v = features(length)
    weights = (phi_q @ phi_k.mT).tril()
    sums, totals, (context, key_sum) = summed(phi_q, phi_k, v)
    torch.testing.assert_close(sums, weights @ v)
    torch.testing.assert_close(totals, weights.sum(dim=-1, keepdim=True))
    torch.testing.assert_close(context, phi_k.mT @ v)
    torch.testing.assert_close(key_sum, phi_k.sum(dim=2))


def test_without_a_divisor_weights_are_not_summed():
    phi_q, phi_k, v = features(200)
    sums, totals, (_, key_sum) = summed(phi_q, phi_k, v, divides=False)
    assert totals is None and key_sum is None
    torch.testing.assert_close(sums, (phi_q @ phi_k.mT).tril() @ v)


def test_the_past_does_not_depend_on_the_bits_of_the_future():
    phi_q, phi_k, v = (x.float() for x in features(4 * CHUNK))
    first, _, _ = summed(phi_q, phi_k, v)
    phi_k[:, :, 2 * CHUNK :] *= 1e6
    again, _, _ = summed(phi_q, phi_k, v)
    assert torch.equal(first[:, :, : 2 * CHUNK], again[:, :, : 2 * CHUNK])
