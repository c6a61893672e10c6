"""`PairCore`: a mechanism that gives weights from scores gets all else."""

import doctest

import pytest
import torch

from attentions import Capabilities, Geometry, PairCore, register_attention, registry
from tests.attentions.calls import in_steps

CPU = torch.device("cpu")
CAN = Capabilities(causal=True, cross=True, recurrent=True, masks=frozenset({"padding", "dense"}))


@pytest.fixture(autouse=True)
def own_registry(monkeypatch):
    registry.attention_names()
    monkeypatch.setattr(registry, "_REGISTRY", dict(registry._REGISTRY))


class Logistic(PairCore):
    tile = 16

    def weights(self, scores):
        return scores.sigmoid()


class WithSlope(Logistic):
    def slope(self, weights):
        return weights * (1 - weights)


def enter(cls):
    return register_attention("mine", title="-", source="-", capabilities=CAN)(cls)


def geometry(causal, kv_heads=4):
    sizes = {"num_heads": 4, "head_dim": 8, "value_dim": 6, "seq_len": 50}
    return Geometry(**sizes, num_kv_heads=kv_heads, causal=causal)


def inputs(kv_heads=4):
    torch.manual_seed(0)
    widths = ((4, 8), (kv_heads, 8), (kv_heads, 6))
    return [
        torch.randn(2, heads, 50, width, dtype=torch.double, requires_grad=True)
        for heads, width in widths
    ]


def explicit(q, k, v, kept):
    k, v = (x.repeat_interleave(4 // x.shape[1], 1) for x in (k, v))
    return ((q @ k.mT / 8**0.5).sigmoid() * kept) @ v


def test_the_example_of_the_docstring_runs():
    runner = doctest.DocTestRunner()
    for test in doctest.DocTestFinder(recurse=False).find(PairCore, "PairCore"):
        assert runner.run(test).attempted and not runner.failures


@pytest.mark.parametrize("cls", [Logistic, WithSlope])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("kv_heads", [4, 2, 1])
def test_outputs_gradients_and_steps_are_those_of_all_pairs(cls, causal, kv_heads):
    enter(cls)
    q, k, v = inputs(kv_heads)
    core = registry.build_attention("mine", geometry(causal, kv_heads))
    kept = torch.ones(50, 50).tril() if causal else torch.ones(50, 50)
    out, expected = core(q, k, v), explicit(q, k, v, kept)
    torch.testing.assert_close(out, expected)
    cotangent = torch.randn_like(out)
    ours, theirs = (torch.autograd.grad(x, (q, k, v), cotangent) for x in (out, expected))
    torch.testing.assert_close(ours, theirs)
    if not causal:
        return
    out, state = in_steps(core, [x.detach() for x in (q, k, v)], (20, 1, 29))
    torch.testing.assert_close(out, expected)
    with pytest.raises(ValueError, match="a state for 50 tokens holds 50, and 50 more"):
        core.step(q, k, v, state)


def test_masks_hide_keys_and_pairs():
    q, k, v = inputs()
    core = enter(Logistic)(geometry(False))
    key_mask, mask = torch.rand(2, 50) < 0.5, torch.rand(50, 50) < 0.5
    key_mask[0] = False
    kept = key_mask[:, None, None] & mask
    out = core(q, k, v, key_mask=key_mask, mask=mask)
    torch.testing.assert_close(out, explicit(q, k, v, kept))
    assert not out[0].any()


def test_neither_weights_nor_softmax_is_said():
    with pytest.raises(NotImplementedError, match="mine gives no weights"):
        enter(type("Bare", (PairCore,), {}))(geometry(False))(*inputs())


def test_a_window_and_a_cache_need_a_causal_form():
    core = enter(Logistic)(geometry(False))
    with pytest.raises(ValueError, match="window is 3, and causal is False"):
        core.checked_window(3)
    with pytest.raises(ValueError, match="causal is False; it is needed True"):
        core.init_state(2, dtype=torch.double, device=CPU)
