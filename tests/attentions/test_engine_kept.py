"""What the engine keeps for a backward pass: sums, and of a single tile features as well."""

import pytest
import torch

from attentions import Geometry, build_attention
from attentions._engine_elu import EluPlusOne
from attentions._engine_kernel import Kernel

H, D = 2, 8


def num_kept(name, seq_len):
    """How many tensors with all tokens are kept beside q, k and v.

    A second backward pass from them gives the same.
    """
    core = build_attention(name, Geometry(num_heads=H, head_dim=D, seq_len=seq_len)).double()
    core.eval()
    inputs = torch.randn(3, 1, H, seq_len, D, dtype=torch.float64).unbind()
    inputs = [x.clone().requires_grad_() for x in inputs]
    kept = []

    def keep(x):
        kept.append(x)
        return x

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
        out = core(*inputs)
    wanted = torch.randn_like(out)
    once = torch.autograd.grad(out, inputs, wanted, retain_graph=True)
    again = torch.autograd.grad(out, inputs, wanted)
    for a, b in zip(once, again, strict=True):
        assert torch.equal(a, b)
    whole = [x for x in kept if x.dim() == 4 and x.shape[2] == seq_len]
    return len(whole) - len(inputs)


@pytest.mark.parametrize(
    ("name", "num_features"), [("linear", 2), ("cosformer", 4), ("performer", 2)]
)
def test_features_of_a_single_tile_are_kept_and_those_of_more_are_not(name, num_features):
    assert num_kept(name, 64) == num_features
    assert num_kept(name, 1300) == 0


def test_features_whose_derivative_takes_more_than_them_are_not_kept():
    assert num_kept("nala", 64) == 0


def test_what_is_kept_may_not_be_changed_meanwhile():
    core = build_attention("linear", Geometry(num_heads=H, head_dim=D, seq_len=64))
    q = torch.randn(1, H, 64, D, requires_grad=True)
    out = core(q, q, q)
    *_, features = out.grad_fn.saved_tensors
    features.mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        out.sum().backward()


@pytest.mark.parametrize(("joint_heads", "keeps"), [(1, True), (2, False)])
def test_heads_that_belong_together_keep_nothing(joint_heads, keeps):
    features = EluPlusOne()
    kernel = Kernel(queries=features, keys=features, num_features=D, joint_heads=joint_heads)
    assert kernel.keeps is keeps
