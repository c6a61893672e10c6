import pytest
import torch
from torch import nn

from attentions import Geometry, build_attention
from attentions.engines.grid_layer import GridLayer
from attentions.models._parts import (
    DropPath,
    drop_path_rates,
    outside_cores,
    start_narrow,
)


def test_rates_grow_in_equal_steps_over_all_stages():
    rates = drop_path_rates(0.4, (2, 3))
    assert [len(stage) for stage in rates] == [2, 3]
    assert [*rates[0], *rates[1]] == pytest.approx([0, 0.1, 0.2, 0.3, 0.4])


def test_drop_path_leaves_out_whole_samples_and_keeps_the_mean():
    drop, x = DropPath(0.25).train(), torch.ones(4000, 2, 3)
    out = drop(x)
    assert out.unique().tolist() == pytest.approx([0, 4 / 3])
    assert all(sample.unique().numel() == 1 for sample in out[:50])
    assert out.mean() == pytest.approx(1, abs=0.05)
    assert drop.eval()(x).equal(x)


@pytest.mark.parametrize(("core", "layer"), [("nala", "nala_layer"), ("softmax", "nala_vanilla")])
def test_the_authors_layer_can_be_had_around_any_core(core, layer):
    geometry = Geometry(num_heads=2, head_dim=8, seq_len=12, grid=(3, 4))
    theirs = build_attention(layer, geometry, rope=False).double()
    ours = GridLayer(build_attention(core, geometry)).double()
    ours.load_state_dict(theirs.state_dict(), strict=True)
    x = torch.randn(2, 12, 16, dtype=torch.float64)
    torch.testing.assert_close(ours(x), theirs(x))


def test_a_narrow_start_stops_at_the_core():
    geometry = Geometry(num_heads=2, head_dim=8, seq_len=16)
    mixer = GridLayer(build_attention("hedgehog", geometry))
    learned = {name: p.clone() for name, p in mixer.core.named_parameters()}
    assert learned and mixer.core not in list(outside_cores(mixer))
    start_narrow(mixer, nn.Linear)
    assert mixer.qkvg.weight.std().item() == pytest.approx(0.02, rel=0.2)
    assert mixer.qkvg.bias.count_nonzero() == 0
    assert all(p.equal(learned[name]) for name, p in mixer.core.named_parameters())
