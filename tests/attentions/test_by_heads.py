"""Plain operators cut at their heads: the same numbers, in both directions, by several threads."""

import threading

import pytest
import torch
from torch.multiprocessing.reductions import StorageWeakRef

from attentions import Geometry, build_attention
from attentions._by_heads import by_heads
from attentions._engine_threads import run_jobs

SHAPE = (2, 5, 256, 8)
MUCH = 2**10
"""Features of a token, so many that there is no little work."""
RECURRENT = ("retnet", "lightning", "simple_gla", "mamba2_ssd", "gla", "deltanet", "gated_deltanet")
CUT = [
    *((name, False) for name in ("agent", "nystromformer", "taylor", "local_only")),
    *((name, True) for name in ("performer", "taylor", "linear_unnormalised", *RECURRENT)),
]


@pytest.fixture
def sleeping(monkeypatch):
    monkeypatch.setattr("attentions._engine_threads._POLICY", "PASSIVE")
    monkeypatch.setattr("attentions._engine_tiles.NUM_FEW", 2**16)


def mix(q, k, v, bias):
    return (q @ k.mT + bias).softmax(dim=-1) @ v


def tensors(seed=0, shape=SHAPE):
    draw = torch.Generator().manual_seed(seed)
    inputs = [torch.randn(shape, generator=draw, dtype=torch.float64) for _ in range(3)]
    bias = torch.randn(shape[1], 1, shape[2], generator=draw, dtype=torch.float64)
    return [x.requires_grad_() for x in (*inputs, bias)]


def call(q, k, v, bias, *, num_features=MUCH):
    return by_heads(mix, q, k, v, num_features=num_features, weights=(bias,))


def threads_of(shape=SHAPE, *, num_features=MUCH, with_backward=False, **how):
    """The threads that a call's task ran in, and the heads that it saw."""
    seen = []

    def watched(q):
        seen.append((threading.get_ident(), q.shape[1]))
        return q * 2

    q = torch.randn(shape, requires_grad=with_backward)
    by_heads(watched, q, num_features=num_features, **how)
    return seen


@pytest.mark.parametrize("is_wide", [True, False])
def test_large_operators_are_cut_only_with_wide_vectors(sleeping, monkeypatch, is_wide):
    monkeypatch.setattr("attentions._by_heads.has_wide_vectors", lambda: is_wide)
    monkeypatch.setattr("attentions._by_heads.is_intel", lambda: False)
    torch.set_num_threads(2)
    long = (2, 5, 2048, 8)
    for with_backward, number in ((False, 5), (True, 2)):
        how = {"with_backward": with_backward, "large_operators": True}
        assert len(threads_of(**how)) == (number if is_wide else 1)
        assert len(threads_of(long, **how)) == (5 if is_wide and not with_backward else 1)
        for shape in (SHAPE, long):
            assert len(threads_of(shape, with_backward=with_backward)) == number


def test_large_operators_on_little_are_cut_without_wide_vectors_too(sleeping, monkeypatch):
    monkeypatch.setattr("attentions._by_heads.has_wide_vectors", lambda: False)
    monkeypatch.setattr("attentions._by_heads.is_intel", lambda: False)
    batch_size, num_heads, length, _ = SHAPE
    monkeypatch.setattr("attentions._engine_tiles.NUM_FEW", 2 * batch_size * num_heads * length)
    torch.set_num_threads(2)
    for num_features, number in ((2, 2), (3, 1)):
        how = {"num_features": num_features, "with_backward": True, "large_operators": True}
        assert len(threads_of(**how)) == number


@pytest.mark.parametrize("with_backward", [False, True])
def test_large_operators_of_short_sequences_are_shared_where_threads_wake_up_soon(
    sleeping, monkeypatch, with_backward
):
    monkeypatch.setattr("attentions._by_heads.has_wide_vectors", lambda: True)
    monkeypatch.setattr("attentions._by_heads.is_intel", lambda: True)
    monkeypatch.setattr("attentions._by_heads.num_few_shared", lambda: 2 * 5 * 256)
    seen = []

    def watched(q):
        seen.append(torch.get_num_threads())
        return q * 2

    torch.set_num_threads(2)
    for length, num_features in ((256, 1), (256, 2), (1024, MUCH)):
        q = torch.randn(2, 5, length, 8, requires_grad=with_backward)
        by_heads(watched, q, num_features=num_features, large_operators=True)
    assert seen[:2] == [1, 2]
    assert set(seen[2:]) == {1}


def test_a_backward_pass_makes_a_call_less_little(sleeping, monkeypatch):
    torch.set_num_threads(2)
    batch_size, num_heads, length, _ = SHAPE
    monkeypatch.setattr("attentions._engine_tiles.NUM_FEW", 2 * batch_size * num_heads * length)
    assert len(threads_of(num_features=2)) == 1
    assert len(threads_of(num_features=2, with_backward=True)) == 2
    assert len(threads_of(num_features=3)) == 2


@pytest.mark.parametrize("num_features", [1, MUCH], ids=["alone", "cut"])
@pytest.mark.parametrize("num_threads", [2, 3, 8])
def test_heads_of_several_threads_are_those_of_one_call_in_both_directions(
    sleeping, num_threads, num_features
):
    torch.set_num_threads(num_threads)
    ours, theirs = tensors(), tensors()
    out, expected = call(*ours, num_features=num_features), mix(*theirs)
    weight = torch.randn_like(expected)
    torch.testing.assert_close(out, expected)
    found = torch.autograd.grad(out, ours, weight)
    torch.testing.assert_close(found, torch.autograd.grad(expected, theirs, weight))
    with torch.no_grad():
        again = call(*ours, num_features=num_features)
    torch.testing.assert_close(again, expected.detach())


def test_little_is_done_by_one_thread_alone_in_both_directions(sleeping):
    torch.set_num_threads(2)
    seen = []

    class Watched(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            seen.append((threading.get_ident(), torch.get_num_threads()))
            return x * 2

        @staticmethod
        def backward(ctx, grad):
            seen.append((threading.get_ident(), torch.get_num_threads()))
            return grad * 2

    q = torch.randn(SHAPE, requires_grad=True)
    by_heads(Watched.apply, q, num_features=1).sum().backward()
    assert seen == [(threading.get_ident(), 1)] * 2
    assert torch.get_num_threads() == 2
    assert q.grad.eq(2).all()


def test_only_gradients_that_are_wanted_are_taken(sleeping):
    torch.set_num_threads(2)
    q, k, v, bias = tensors()
    k.requires_grad_(False)
    bias.requires_grad_(False)
    call(q, k, v, bias).sum().backward()
    assert q.grad is not None and v.grad is not None
    assert k.grad is None and bias.grad is None


def test_gradients_can_be_differentiated(sleeping):
    torch.set_num_threads(2)
    results = []
    for form in (call, mix):
        inputs = tensors()
        first = torch.autograd.grad(form(*inputs).square().sum(), inputs, create_graph=True)
        results.append(torch.autograd.grad(sum(g.square().sum() for g in first), inputs))
    torch.testing.assert_close(*results)


def test_the_way_back_can_be_gone_twice_only_where_the_graph_is_kept(sleeping):
    torch.set_num_threads(2)
    inputs = tensors()
    out = call(*inputs)
    weight = torch.randn_like(out)
    first = torch.autograd.grad(out, inputs, weight, retain_graph=True)
    torch.testing.assert_close(torch.autograd.grad(out, inputs, weight), first)
    with pytest.raises(RuntimeError, match="second time"):
        torch.autograd.grad(out, inputs, weight)


def test_after_the_way_back_nothing_is_kept_though_the_output_lives(sleeping):
    torch.set_num_threads(2)
    leaves = tensors()
    kept = []

    def watched(q, k, v, bias):
        scores = q @ k.mT + bias
        kept.append(StorageWeakRef(scores.exp().untyped_storage()))
        weights = scores.softmax(dim=-1)
        kept.append(StorageWeakRef(weights.untyped_storage()))
        return weights @ v

    inputs = [x * 1 for x in leaves]
    kept += [StorageWeakRef(x.untyped_storage()) for x in inputs]
    out = by_heads(watched, *inputs[:3], num_features=MUCH, weights=inputs[3:])
    del inputs
    assert sum(not ref.expired() for ref in kept) >= 6, "weights of two jobs, and the inputs"
    out.sum().backward()
    assert all(ref.expired() for ref in kept)


def test_a_changed_input_is_noticed_on_the_way_back(sleeping):
    torch.set_num_threads(2)
    q, k, v, bias = tensors()
    scaled = v * 1
    out = call(q, k, scaled, bias)
    with torch.no_grad():
        scaled.mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        out.sum().backward()


def test_heads_are_cut_for_a_near_cache_and_among_threads_that_sleep(sleeping, monkeypatch):
    torch.set_num_threads(2)
    here = threading.get_ident()
    assert sorted(heads for _, heads in threads_of()) == [1] * 5
    assert sorted(heads for _, heads in threads_of(num_features=150)) == [2, 3]
    assert sorted(heads for _, heads in threads_of(with_backward=True)) == [2, 3]
    assert threads_of(num_features=16) == [(here, 5)], "done before another one is awake"
    assert threads_of((9, 1, 256, 8)) == [(here, 1)], "one head"
    monkeypatch.setattr("attentions._engine_threads._POLICY", "ACTIVE")
    assert threads_of() == [(here, 5)]
    monkeypatch.setattr("attentions._engine_threads._POLICY", "PASSIVE")
    torch.set_num_threads(1)
    assert threads_of() == [(here, 1)] * 5
    assert threads_of(num_features=150) == [(here, 3), (here, 2)]
    assert threads_of(num_features=16) == [(here, 5)]
    assert threads_of(with_backward=True) == [(here, 5)], "a graph keeps all of it"


@pytest.mark.parametrize(("name", "causal"), CUT)
def test_mechanisms_cut_at_their_heads_give_the_same_with_one_thread_and_two(
    sleeping, name, causal, monkeypatch
):
    monkeypatch.setattr("attentions._engine_tiles.NUM_FEW", 0)
    monkeypatch.setattr("attentions._by_heads.has_wide_vectors", lambda: True)
    monkeypatch.setattr("attentions._by_heads.is_intel", lambda: False)
    cuts = []

    def counted(task, jobs):
        cuts.append(len(jobs))
        return run_jobs(task, jobs)

    monkeypatch.setattr("attentions._by_heads.run_jobs", counted)
    geometry = Geometry(num_heads=5, head_dim=8, seq_len=256, causal=causal)
    module = build_attention(name, geometry).double()
    q, k, v, _ = tensors()
    results = []
    for num_threads in (1, 2):
        torch.set_num_threads(num_threads)
        out = module(q, k, v)
        asked = [q, k, v, *module.parameters()]
        gradients = torch.autograd.grad(
            out.square().sum(), asked, allow_unused=True, materialize_grads=True
        )
        results.append((out, *gradients))
    torch.testing.assert_close(*results)
    assert cuts == [2, 2], "there and back"
