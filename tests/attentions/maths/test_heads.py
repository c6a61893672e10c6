import pytest
import torch

from attentions.maths.heads import by_few_heads


@pytest.mark.parametrize(("device", "num_calls"), [("cpu", 4), ("meta", 1)])
def test_heads_are_cut_to_the_cache_of_a_cpu_alone(device, num_calls):
    q, k = torch.zeros(1, 4, 2**12, 64, device=device), torch.zeros(1, 2, 5, 64, device=device)
    calls = []

    def mix(some_q, some_k):
        calls.append(some_q.shape[1])
        assert some_k.shape[1] == some_q.shape[1]
        return some_q

    assert by_few_heads(mix, q, k, num_columns=64).shape == q.shape
    assert len(calls) == num_calls and sum(calls) == 4
