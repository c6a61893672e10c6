import itertools
from dataclasses import replace

import pytest
import torch

from bench.measuring.subject import Subject
from tests.bench.core.test_cell import KERNEL


def cell(mechanism="linear", **changes):
    sizes = {"seq_len": 12, "num_heads": 2, "head_dim": 8}
    workload = replace(KERNEL.kernel, **(sizes | changes))
    return replace(KERNEL, mechanism=mechanism, hyperparameters={}, workload=workload)


@pytest.mark.parametrize("mode", ["forward", "decode"])
def test_the_first_call_checks_its_inputs_and_later_ones_do_without(mode):
    subject, checked = Subject(cell(mode=mode, causal=True)), []
    step = subject.module.step
    subject.module.register_forward_hook(lambda *_: checked.append(1))
    subject.module.step = lambda *given: checked.append(1) or step(*given)
    subject.prepare()
    checked.clear()
    for _ in range(3):
        subject.call()
    assert len(checked) == 1


def test_backward_alone_gives_the_same_gradients_and_can_be_called_again():
    subject = Subject(cell(mode="backward"))
    first, second = subject.call(), subject.call()
    whole = Subject(cell(mode="forward_backward")).call()
    for a, b, c in zip(first, second, whole, strict=True):
        assert torch.equal(a, b) and torch.allclose(a, c)
    subject.refill(subject.sets[0], 5)  # the graph of the old values is dropped
    assert not torch.equal(subject.call()[0], first[0])


def test_a_train_step_moves_the_weights_a_little_and_keeps_no_gradient():
    subject = Subject(cell(mode="train_step", scope="layer"))
    before = [p.detach().clone() for p in subject.parameters]
    for _ in range(20):
        subject.call()
    moved = [(p - q).abs().max().item() for p, q in zip(subject.parameters, before, strict=True)]
    assert all(0 < distance < 1e-2 for distance in moved)
    assert all(p.grad is None for p in subject.parameters)
    assert subject.sets[0][0].grad is None


@pytest.mark.parametrize("scope", ["core", "layer"])
def test_prefill_and_decode_agree_with_the_whole_sequence(scope):
    whole = Subject(cell(mode="forward", causal=True, scope=scope)).call()
    prefill, _ = Subject(cell(mode="prefill", causal=True, scope=scope)).call()
    decode = Subject(cell(mode="decode", causal=True, scope=scope))
    first, _ = decode.call()
    again, _ = decode.call()
    assert torch.allclose(prefill, whole, atol=1e-5)
    assert torch.allclose(first, whole[..., -1:, :], atol=1e-5)
    assert torch.equal(first, again), "a state must survive being decoded from"


def test_the_bytes_of_a_state_do_not_grow_with_the_context_of_a_recurrent_form():
    sizes = {Subject(cell(mode="decode", causal=True, seq_len=n)).state_bytes() for n in (5, 50)}
    assert sizes == {2 * (8 * 8 + 8) * 4}
    assert Subject(cell()).state_bytes() is None
    subject, x = Subject(cell(mode="decode", causal=True)), torch.ones(6)
    subject.state_before_last = lambda tensors: {
        "a": (x[:2], 7),
        "b": [x[3:], {"c": torch.ones(2)}],
    }
    assert subject.state_bytes() == (6 + 2) * 4, "as a whole and once, however it is nested"


def test_calls_rotate_over_inputs_within_a_bound_of_memory():
    subject = Subject(cell())
    assert torch.equal(subject.call(), subject.call())
    subject.rotate()
    assert len(subject.sets) == 4
    assert not torch.equal(subject.call(), subject.call())
    for seq_len, count in ((65_536, 1), (5_120, 3)):  # 256 and 20 MiB a set
        large = Subject(cell(seq_len=seq_len, num_heads=4, head_dim=64))
        large.rotate()
        assert len(large.sets) == count


@pytest.mark.slow
def test_compiling_changes_the_call_and_not_the_result():
    compiled = Subject(cell(compile="inductor"))
    assert compiled.call is not compiled.eager_call
    assert torch.allclose(compiled.call(), compiled.eager_call(), atol=1e-5)


def rotated(**changes):
    subject = Subject(cell(**changes))
    subject.rotate()
    subject.prepare()
    return subject


def values(subject):
    return [[t.detach().clone() for t in tensors] for tensors in subject.sets]


def test_the_sets_of_the_next_calls_are_renewed_where_they_lie_and_no_others():
    subject = rotated()
    subject.call()
    before, addresses = values(subject), [t.data_ptr() for t in subject.sets[2]]
    subject.renew(0, 2)
    after = values(subject)
    are_new = [not torch.equal(a[0], b[0]) for a, b in zip(before, after, strict=True)]
    assert are_new == [False, False, True, True], "the first call took the second set"
    assert [t.data_ptr() for t in subject.sets[2]] == addresses
    assert not any(torch.equal(a, b) for a, b in itertools.combinations(after[2], 2))
    assert all(torch.equal(a[3], b[3]) for a, b in zip(before, after, strict=True)), "not read"
    taken = subject.call()
    assert torch.equal(taken, subject.forward(subject.sets[2]))


def test_all_mechanisms_get_the_same_values_in_a_round_and_other_ones_in_the_next():
    one, other = rotated(mechanism="linear"), rotated(mechanism="softmax")
    for subject in (one, other):
        subject.renew(7, 1000)
    assert all(
        torch.equal(a, b)
        for mine, yours in zip(values(one), values(other), strict=True)
        for a, b in zip(mine[:3], yours[:3], strict=True)
    )
    before = values(one)
    one.renew(8, 1000)
    pairs = itertools.product(before, values(one))
    assert not any(torch.equal(a[0], b[0]) for a, b in pairs), "nor those of another set"


def test_a_backward_pass_goes_through_the_graph_of_the_new_values():
    subject = rotated(mode="backward")
    subject.call()
    subject.renew(3, 1)
    (index,) = subject.rotation.coming(1)
    tensors = subject.sets[index]
    assert len(subject._ready) == 4, "it is made before it is timed"
    expected = subject.gradients(subject.module(*tensors[:-1]), tensors)
    for ours, whole in zip(subject.call(), expected, strict=True):
        assert torch.allclose(ours, whole, atol=1e-6)


@pytest.mark.parametrize("whole", [True, False])
def test_a_decode_follows_its_new_values_with_a_new_state_or_a_new_token_alone(whole):
    subject = rotated(mode="decode", causal=True)
    subject.call()
    before, state = values(subject)[2], subject.ready(subject.sets[2], subject.runner)
    subject.renew(3, 1, whole=whole)
    after = values(subject)[2]
    assert torch.equal(before[0][..., :-1, :], after[0][..., :-1, :]) != whole
    assert (subject.ready(subject.sets[2], subject.runner) is state) != whole
    assert not torch.equal(before[0][..., -1:, :], after[0][..., -1:, :])
    out, _ = subject.call()
    expected = Subject(cell(causal=True)).module(*after[:3])[..., -1:, :]
    assert torch.allclose(out, expected, atol=1e-5)


def test_a_renewed_cotangent_stays_zero_at_queries_that_are_padding():
    subject = rotated(mode="forward_backward", causal=True, padding=0.5)
    subject.renew(1, 4)
    cotangent = subject.sets[0][-1]
    assert not cotangent[..., 6:, :].any() and bool(cotangent[..., :6, :].all())


GATED = ["gla", "simple_gla", "mamba2_ssd", "deltanet", "gated_deltanet"]
gated = pytest.mark.parametrize("name", GATED)


def gated_subject(name, **changes):
    return Subject(cell(name, **({"causal": True} | changes)))


@gated
def test_a_core_that_takes_gates_is_called_with_them(name):
    subject = gated_subject(name)
    tensors = subject.sets[0]
    assert subject.names == ("q", "k", "v", *subject.module.capabilities.gates, "cotangent")
    assert len(tensors) == len(subject.names)
    given, gates = subject.arguments(tensors)
    assert torch.equal(subject.call(), subject.module(*given, **gates))
    assert not torch.equal(subject.call(), subject.module(*given))


@gated
def test_prefill_and_decode_take_the_gates_of_their_tokens(name):
    whole = gated_subject(name).call()
    prefill, _ = gated_subject(name, mode="prefill").call()
    decode = gated_subject(name, mode="decode")
    assert torch.allclose(prefill, whole, atol=1e-5)
    for _ in range(2):  # the first call is checked, and later ones are not
        assert torch.allclose(decode.call()[0], whole[..., -1:, :], atol=1e-5)


def test_a_gate_has_the_strides_that_its_core_wants(monkeypatch):
    monkeypatch.setattr("bench.measuring.subject.layout_of", lambda _: "bnhd")
    beta, log_decay = gated_subject("gated_deltanet").sets[0][3:-1]
    assert beta.transpose(1, 2).is_contiguous() and log_decay.transpose(1, 2).is_contiguous()


def test_another_tree_gets_the_very_tensors_and_the_gates_of_the_first():
    base = gated_subject("deltanet")
    other = Subject(cell("gated_deltanet", causal=True), like=base)
    assert other.sets is base.sets and other.gates.names == ("beta",)
    assert other.call().shape == base.call().shape
