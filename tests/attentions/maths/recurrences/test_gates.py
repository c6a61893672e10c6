import pytest
import torch

from attentions import Geometry, build_attention
from attentions.maths.recurrences.gates import SelectiveDecay, spread


def test_spread_numbers_have_equal_ratios_and_stay_within_their_bounds():
    numbers = spread((0.01, 100.0), 4)
    assert numbers.tolist() == pytest.approx([10**-1.5, 10**-0.5, 10**0.5, 10**1.5])
    assert spread((1.0, 16.0), 1).tolist() == pytest.approx([4.0])


def test_a_selective_decay_starts_where_mamba_2_draws_it():
    decay = SelectiveDecay(4)
    step, log_decay = decay(torch.zeros(1, 1, 4))
    torch.testing.assert_close(step[0, :, 0], spread((1e-3, 1e-1), 4))
    torch.testing.assert_close(-log_decay / step, spread((1.0, 16.0), 4)[None, :, None])
    assert step.shape == (1, 4, 1)


@pytest.mark.parametrize("name", ["gated_deltanet", "mamba2_ssd"])
def test_a_rate_that_was_learned_beyond_all_numbers_erases(name):
    core = build_attention(name, Geometry(num_heads=2, head_dim=4, seq_len=70, causal=True))
    tensors = torch.randn(3, 1, 2, 70, 4)
    with torch.no_grad():
        core.log_rate.fill_(1e3)
        out = core(*tensors)
        alone = torch.cat([core(*(x[:, :, i : i + 1] for x in tensors)) for i in range(70)], dim=2)
    torch.testing.assert_close(out, alone)
