import pytest
import torch

from attentions import Attention, Capabilities, Geometry, build_attention
from attentions import register_attention as register


def test_a_plugin_need_not_refuse_lengths_and_masks_itself(own_registry):
    @register(
        "plain",
        title="Plain",
        source="none",
        capabilities=Capabilities(masks=frozenset({"padding", "dense"})),
    )
    class Plain(Attention):
        def forward(self, q, k, v, *, key_mask=None, mask=None):
            return v

        def flops(self, shape):
            return 0

    core = Plain(Geometry(num_heads=2, head_dim=4, seq_len=5))
    x, fewer = torch.zeros(3, 2, 5, 4), torch.zeros(3, 2, 4, 4)
    keep = torch.ones(3, 5, dtype=torch.bool)
    core(x, x, x, key_mask=keep, mask=keep[:, None, None])
    for message, inputs, masks in (
        ("5 queries and 4 keys were given; it needs as many", (x, fewer, fewer), {}),
        (r"key_mask is torch.bool of shape \(3, 4\)", (x, x, x), {"key_mask": keep[:, 1:]}),
        ("key_mask is torch.int64", (x, x, x), {"key_mask": keep.long()}),
        (r"mask is torch.bool of shape \(3, 5\)", (x, x, x), {"mask": keep}),
    ):
        with pytest.raises(ValueError, match=f"plain: {message}"):
            core(*inputs, **masks)


def test_a_recurrent_form_that_is_claimed_and_not_written_is_named(monkeypatch):
    core = build_attention("linformer", Geometry(num_heads=2, head_dim=4, seq_len=12))
    monkeypatch.setattr(type(core), "capabilities", Capabilities(recurrent=True))
    with pytest.raises(TypeError, match="claims recurrent=True and defines no `init_state`"):
        core.init_state(1, dtype=torch.float32, device=torch.device("cpu"))
