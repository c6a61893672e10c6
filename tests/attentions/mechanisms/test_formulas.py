"""Cores with a weight for each pair, with every hyperparameter, against a formula.

It is that of `explicit_pairs`, which shares no code with core or slow form, for cores of which the
authors' numbers say nothing; the core's own slow form, which these numbers prove, for the others.
"""

import pytest
import torch

from attentions import Geometry, attention_class, build_attention
from tests.attentions.mechanisms import explicit_pairs

CASES = {
    "softmax_chunked": [{"chunk_size": n} for n in (1, 2, 256)],
    "sigmoid": [{"chunk_size": 3}, {"bias": 0.0}, {"bias": -3}],
    "topk": [{"k": 1, "chunk_size": 4}, {"k": 3, "chunk_size": 1}, {"k": 3}, {"k": 100}],
    "sliding_window": [{"window": n} for n in (0, 1, 3, 100)],
    "linear": [{"eps": 10.0}],
    "taylor": [{"form": "explicit"}, {"eps": 9.0}],
    "cosformer": [{"horizon": 20}, {"eps": 50.0}],
    "dpfp": [{"nu": 1}, {"nu": 3}, {"nu": 7}, {"eps": 2.0}],
    "hedgehog": [{}, {"normaliser": "joint"}],
    "performer": [{"kernel": "softmax", "eps": 1e-4}, {"kernel": "relu", "num_features": 7}],
    "nala": [{"lam": 2.0, "tau": 0.75, "key_power": 2.0, "eps": 0.1}],
    "nala_cosine": [{"alpha": 3.0, "lam": 2.0, "tau": 0.75, "key_power": 2.0, "eps": 0.1}],
    "polaformer": [{"eps": 3.0}],
    "flatten": [
        {"focusing_factor": p, "norm_over": n} for p in (2, 4.5) for n in ("all_heads", "head")
    ],
    "linformer": [{"projected_len": 5, "share_kv": flag} for flag in (False, True)],
}
EVERY = [
    pytest.param(name, settings, causal, id=f"{name}-{causal}-{settings}")
    for name, rows in CASES.items()
    for settings in rows
    for causal in (False, True)
    if attention_class(name).capabilities.causal or not causal
]


@pytest.mark.parametrize(("name", "settings", "causal"), EVERY)
@torch.no_grad()
def test_it_is_the_formula_of_the_paper(name, settings, causal, qkv):
    sizes = {"num_heads": 2, "head_dim": 4, "value_dim": 3, "seq_len": 9}
    core = build_attention(name, Geometry(**sizes, causal=causal), **settings).double()
    for parameter in core.parameters():
        parameter.add_(0.5 * torch.randn_like(parameter))
    lengths = {9, *((5, 11) if core.capabilities.cross and not causal else ())}
    for key_len in lengths:
        tensors = qkv(2, 2, 9, 4, key_len=key_len, value_dim=3)
        expected = core.reference(*tensors)
        torch.testing.assert_close(core(*tensors), expected)
        if form := getattr(explicit_pairs, name, None):
            torch.testing.assert_close(expected, form(core, *tensors, **settings))
