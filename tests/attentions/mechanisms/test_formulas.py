"""Cores with a weight for each pair against their papers' formulas, with every hyperparameter.

`explicit_pairs` has the formulas, which share no code with the cores or their slow forms.
"""

import pytest
import torch

from attentions import Geometry, attention_class, build_attention
from tests.attentions.mechanisms import explicit_pairs

CASES = [
    ("softmax", explicit_pairs.attention, [{}]),
    ("softmax_explicit", explicit_pairs.attention, [{}]),
    ("softmax_chunked", explicit_pairs.attention, [{"chunk_size": n} for n in (1, 2, 256)]),
    ("sigmoid", explicit_pairs.sigmoid, [{"chunk_size": 3}, {"bias": 0.0}, {"bias": -3}]),
    ("inline", explicit_pairs.inline, [{}]),
    ("efficient", explicit_pairs.efficient, [{}]),
    (
        "topk",
        explicit_pairs.topk,
        [{"k": 1, "chunk_size": 4}, {"k": 3, "chunk_size": 1}, {"k": 3}, {"k": 100}],
    ),
    ("sliding_window", explicit_pairs.sliding_window, [{"window": n} for n in (0, 1, 3, 100)]),
    ("linear", explicit_pairs.linear, [{}, {"eps": 10.0}]),
    ("taylor", explicit_pairs.taylor, [{}, {"form": "explicit"}, {"eps": 9.0}]),
    ("cosformer", explicit_pairs.cosformer, [{}, {"horizon": 20}, {"eps": 50.0}]),
    ("dpfp", explicit_pairs.dpfp, [{"nu": 1}, {"nu": 3}, {"nu": 7}, {"eps": 2.0}]),
    ("hedgehog", explicit_pairs.hedgehog, [{}, {"normaliser": "joint"}]),
    (
        "performer",
        explicit_pairs.performer,
        [
            {"kernel": "softmax", "num_features": 7, "eps": 1e-4},
            {"kernel": "relu", "num_features": 7},
        ],
    ),
    (
        "nala",
        explicit_pairs.nala,
        [{}, {"lam": 2.0, "tau": 0.75, "key_power": 2.0, "eps": 0.1}],
    ),
    (
        "nala_cosine",
        explicit_pairs.nala_cosine,
        [{}, {"alpha": 1.0}, {"alpha": 3.0, "lam": 2.0, "tau": 0.75, "key_power": 2.0, "eps": 0.1}],
    ),
    ("polaformer", explicit_pairs.polaformer, [{}, {"eps": 3.0}]),
    (
        "flatten",
        explicit_pairs.flatten,
        [{"focusing_factor": p, "norm_over": n} for p in (2, 4.5) for n in ("all_heads", "head")]
        + [{}],
    ),
    ("linformer", explicit_pairs.linformer, [{"projected_len": 5}]),
    ("linformer", explicit_pairs.linformer, [{"projected_len": 5, "share_kv": True}]),
]
EVERY = [
    pytest.param(name, form, settings, causal, id=f"{name}-{causal}-{settings}")
    for name, form, rows in CASES
    for settings in rows
    for causal in (False, True)
    if attention_class(name).capabilities.causal or not causal
    if name != "performer" or not causal  # a causal one has other largest keys: test_performer
]


@pytest.mark.parametrize(("name", "form", "settings", "causal"), EVERY)
@torch.no_grad()
def test_it_is_the_formula_of_the_paper(name, form, settings, causal, qkv):
    sizes = {"num_heads": 2, "head_dim": 4, "value_dim": 3, "seq_len": 9}
    core = build_attention(name, Geometry(**sizes, causal=causal), **settings).double()
    for parameter in core.parameters():
        parameter.add_(0.5 * torch.randn_like(parameter))
    lengths = {9, *((5, 11) if core.capabilities.cross and not causal else ())}
    for key_len in lengths:
        q, k, v = qkv(2, 2, 9, 4, key_len=key_len, value_dim=3)
        expected = form(core, q, k, v, **settings)
        torch.testing.assert_close(core(q, k, v), expected)
        torch.testing.assert_close(core.reference(q, k, v), expected)
