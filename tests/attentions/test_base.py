import pytest
import torch

from attentions import Geometry, build_attention


def test_a_core_without_a_recurrent_form_says_so_at_step_too():
    core = build_attention("efficient", Geometry(num_heads=2, head_dim=4, seq_len=12))
    x = torch.zeros(1, 2, 1, 4)
    with pytest.raises(TypeError, match="efficient has no recurrent form"):
        core.step(x, x, x, None)
