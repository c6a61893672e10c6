"""Packages of other people, run for real: same inputs, same weights, same outputs as ours."""

import copy

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from attentions import Geometry, MultiHeadAttention, build_attention
from tests.attentions.calls import call_of

GEOMETRY = Geometry(num_heads=3, head_dim=8, seq_len=48)


def tokens(length=48):
    return torch.randn(2, length, 24, dtype=torch.float64)


def shape(length=48):
    return call_of(length, 8, batch_size=2, num_heads=3)


@pytest.mark.parametrize("settings", [{}, {"kernel": "relu", "num_features": 11}], ids=str)
def test_performer_pytorch_agrees_with_performer(settings, qkv):
    pytest.importorskip("performer_pytorch", reason="needs the extra peers")
    q, k, v = (x.requires_grad_() for x in qkv(2, 3, 21, 8, key_len=33))
    theirs = build_attention("performer_peer", GEOMETRY, projection_seed=3, **settings).double()
    same = {"num_features": None, "eps": 1e-4} | settings
    ours = build_attention("performer", GEOMETRY, projection_seed=3, **same).double()
    torch.testing.assert_close(theirs(q, k, v), ours(q, k, v))
    one, other = (torch.autograd.grad(c(q, k, v).square().sum(), (q, k, v)) for c in (theirs, ours))
    torch.testing.assert_close(one, other)
    assert torch.equal(copy.deepcopy(theirs)(q, k, v), theirs(q, k, v))


@pytest.mark.parametrize("share_kv", [False, True])
@pytest.mark.parametrize("length", [48, 20])
def test_linformer_agrees_with_linformer_layer(share_kv, length):
    pytest.importorskip("linformer", reason="needs the extra peers")
    theirs = build_attention(
        "linformer_peer", GEOMETRY, projected_len=10, share_kv=share_kv
    ).double()
    ours = build_attention(
        "linformer_layer", GEOMETRY, projected_len=10, share_kv=share_kv, values_are_keys=share_kv
    ).double()
    ours.load_state_dict({k: v for k, v in theirs.state_dict().items() if "attention" not in k})
    x = tokens(length)
    torch.testing.assert_close(theirs(x), ours(x))
    torch.testing.assert_close(theirs(x), theirs.reference(x))
    copied = copy.deepcopy(theirs)
    assert torch.equal(copied(x), theirs(x))
    assert sum(p.numel() for p in theirs.parameters()) == sum(p.numel() for p in ours.parameters())


@pytest.mark.parametrize("conv_kernel_size", [None, 5])
def test_nystrom_attention_agrees_with_nystromformer_between_the_same_projections(conv_kernel_size):
    pytest.importorskip("nystrom_attention", reason="needs the extra peers")
    theirs = build_attention(
        "nystrom_peer", GEOMETRY, num_landmarks=12, conv_kernel_size=conv_kernel_size
    ).double()
    core = build_attention(
        "nystromformer",
        GEOMETRY,
        num_landmarks=12,
        pinv_init="batch",
        conv_kernel_size=conv_kernel_size,
    )
    core.load_state_dict(theirs.core.state_dict())
    ours = MultiHeadAttention(core).double()
    ours.qkv.load_state_dict({"weight": theirs.to_qkv.weight, "bias": torch.zeros(72)})
    ours.proj.load_state_dict(theirs.to_out.state_dict())
    x = tokens()
    torch.testing.assert_close(theirs(x), ours(x))
    torch.testing.assert_close(theirs(x), theirs.reference(x))
    assert ours.flops(shape()) == theirs.flops(shape())


def test_nystrom_attention_pads_in_front_where_ours_has_a_shorter_segment():
    pytest.importorskip("nystrom_attention", reason="needs the extra peers")
    theirs = build_attention("nystrom_peer", GEOMETRY, num_landmarks=12, conv_kernel_size=None)
    x = tokens(45).float()
    padded = nn.functional.pad(x, (0, 0, 3, 0))
    torch.testing.assert_close(theirs(x), theirs(padded)[:, 3:])
    assert theirs.reference(x) is None
    assert theirs.reference(x[:, :12]) is None  # as many landmarks as tokens: ours has none
    assert theirs.flops(shape(45)) < theirs.flops(shape(48))


def test_the_causal_form_of_performer_pytorch_is_offered_and_sees_the_future(qkv):
    pytest.importorskip("performer_pytorch", reason="needs the extra peers")
    causal = Geometry(num_heads=3, head_dim=8, seq_len=48, causal=True)
    q, k, v = qkv(2, 3, 48, 8)
    later = v.clone(), k.clone()
    for x in later:
        x[:, :, 30:].neg_()
    core = build_attention("performer_peer", causal).double()
    assert not torch.allclose(core(q, later[1], later[0])[:, :, :30], core(q, k, v)[:, :, :30])
    assert core.reference(q, k, v) is None
    peer, ours = (
        build_attention(name, causal, kernel="relu", num_features=11).double()
        for name in ("performer_peer", "performer")
    )
    torch.testing.assert_close(peer(q, k, v), ours(q, k, v), atol=1e-4, rtol=1e-4)
    with FlopCounterMode(display=False) as counter:
        core(q, k, v)
    shape = call_of(48, 8, batch_size=2, num_heads=3, causal=True)
    assert core.executed_flops(shape) == counter.get_total_flops()
