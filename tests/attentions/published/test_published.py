"""The authors' operators where conformance and goldens do not look: settings, refusals, no mending.

What they give for default settings is tested by the checks of `attentions.testing`, against ours'
slow form, and by the goldens.
"""

from typing import Any

import pytest
import torch

from attentions import (
    Attention,
    Geometry,
    attention_class,
    attention_names,
    build_attention,
)
from attentions.capabilities import PUBLISHED

NAMES = [name for name in attention_names() if attention_class(name).family == PUBLISHED]
SETTINGS: list[tuple[str, dict[str, Any]]] = [
    ("nala_published", {"rope": True}),
    ("performer_published", {"kernel": "relu", "num_features": 12}),
    ("flatten_layer_published", {"sr_ratio": 2, "kernel_size": 3}),
    ("linformer_published", {"projected_len": 5, "share_kv": True}),
    ("nystromformer_published", {"num_landmarks": 4, "pinv_init": "batch", "conv_kernel_size": 3}),
    ("agent_published", {"num_agents": 4, "bias": False}),
    ("agent_published", {"num_agents": 4, "class_token": True}),
]


def build(name, **settings):
    tokens = 17 if settings.get("class_token") else 16
    torch.manual_seed(1)
    module = build_attention(name, Geometry(num_heads=2, head_dim=8, seq_len=tokens), **settings)
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return module.double()


def inputs(module):
    g = module.geometry
    shape = (2, g.num_heads, g.seq_len, g.head_dim)
    if not isinstance(module, Attention):
        return [torch.randn(2, g.seq_len, g.embed_dim, dtype=torch.float64)]
    return list(torch.randn(3, *shape, dtype=torch.float64).unbind())


@pytest.mark.parametrize(("name", "settings"), SETTINGS)
def test_a_setting_means_what_it_means_in_ours(name, settings):
    module = build(name, **settings)
    given = [x.requires_grad_() for x in inputs(module)]
    out, expected = module(*given), module.reference(*given)
    torch.testing.assert_close(out, expected)
    leaves = [*given, *module.parameters()]
    found, wanted = (torch.autograd.grad(x.square().sum(), leaves) for x in (out, expected))
    torch.testing.assert_close(found, wanted)


def test_a_zero_query_stays_nan_as_in_the_authors_code():
    q, k, v = torch.randn(3, 1, 2, 16, 8).unbind()
    q[0, 0, 3] = 0.0
    for name in ("nala", "nala_cosine"):
        geometry = Geometry(num_heads=2, head_dim=8, seq_len=16)
        theirs = build_attention(f"{name}_published", geometry)(q, k, v)
        assert theirs[0, 0, 3].isnan().all() and not theirs[0, 1].isnan().any()
        assert build_attention(name, geometry)(q, k, v).isfinite().all()


def test_they_claim_what_the_code_is_proven_in_and_stand_beside_ours():
    for name in NAMES:
        can, ours = attention_class(name).capabilities, name.removesuffix("_published")
        assert can.dtypes == ("float32", "float64") and not can.masks and not can.causal, name
        assert can.scopes == attention_class(ours).capabilities.scopes, name
