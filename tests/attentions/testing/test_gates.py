import pytest
import torch

from attentions import Geometry, build_attention
from attentions.testing.forms import gates_of

GEOMETRY = Geometry(num_heads=2, head_dim=4, value_dim=3, seq_len=5, causal=True)


@pytest.mark.parametrize("name", ["gla", "kda", "rwkv7", "gated_deltaproduct", "gated_attention"])
def test_gates_have_the_declared_shapes_and_ranges(name):
    core = build_attention(name, GEOMETRY)
    q, k, v = torch.zeros(1, 2, 5, 4), torch.zeros(1, 2, 5, 4), torch.zeros(1, 2, 5, 3)
    drawn = gates_of(core, (q, k, v))
    assert drawn.keys() == core.gates.keys()
    for gate, x in drawn.items():
        declared = core.gates[gate]
        assert tuple(x.shape) == core.gate_shape(gate, 1, 5)
        assert bool((x >= declared.low).all()) and bool((x <= declared.high).all())
        if declared.unit:
            assert torch.allclose(x.norm(dim=-1), torch.ones(x.shape[:-1]))
    assert bool(core(q, k, v, **drawn).isfinite().all())
