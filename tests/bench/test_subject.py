from dataclasses import replace

import pytest
import torch

from bench.checking import check
from bench.subject import Subject, flops_of
from tests.bench.test_cell import KERNEL


def cell(mechanism="linear", **changes):
    sizes = {"seq_len": 12, "num_heads": 2, "head_dim": 8}
    workload = replace(KERNEL.kernel, **(sizes | changes))
    return replace(KERNEL, mechanism=mechanism, hyperparameters={}, workload=workload)


def test_forward_makes_no_graph():
    out = Subject(cell()).call()
    assert out.shape == (1, 2, 12, 8) and not out.requires_grad


def test_forward_backward_gives_a_gradient_for_every_input():
    gradients = Subject(cell(mode="forward_backward")).call()
    assert [g.shape for g in gradients] == [(1, 2, 12, 8)] * 3


def test_backward_alone_gives_the_same_gradients_and_can_be_called_again():
    subject = Subject(cell(mode="backward"))
    first, second = subject.call(), subject.call()
    whole = Subject(cell(mode="forward_backward")).call()
    for a, b, c in zip(first, second, whole, strict=True):
        assert torch.equal(a, b) and torch.allclose(a, c)


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


def test_a_single_token_can_be_decoded():
    assert Subject(cell(mode="decode", causal=True, seq_len=1)).call()[0].shape == (1, 2, 1, 8)


@pytest.mark.parametrize("mode", ["backward", "prefill", "decode", "forward_backward"])
def test_every_mode_is_checked_against_the_oracle(mode):
    errors = check(Subject(cell(mode=mode, causal=mode in ("prefill", "decode"))))
    assert 0 < errors.rms_error < 1e-4


def test_flops_are_those_of_visible_pairs_and_what_is_executed_is_all():
    def both(**shape):
        subject = Subject(cell("softmax", batch_size=3, **shape))
        return flops_of(subject.module, subject.cell.kernel)

    pair = 2 * 2 * (8 + 8)  # of two heads
    assert both() == (pair * 3 * 12 * 12,) * 2
    assert both(padding=0.25) == (pair * 3 * 12 * 9, pair * 3 * 12 * 12)
    assert both(key_len=20)[0] == pair * 3 * 12 * 20
    assert both(ragged=0.5) == (pair * (12 * 12 + 9 * 9 + 6 * 6), pair * 3 * 12 * 12)
    assert both(ragged=0.5, causal=True)[0] == pair * (12 * 13 + 9 * 10 + 6 * 7) // 2


def test_calls_rotate_over_inputs_within_a_bound_of_memory():
    subject = Subject(cell())
    assert torch.equal(subject.call(), subject.call())
    subject.rotate()
    assert len(subject.sets) == 4
    assert not torch.equal(subject.call(), subject.call())
    large = Subject(cell(seq_len=65_536, num_heads=4, head_dim=64))
    large.rotate()
    assert len(large.sets) == 1


def test_the_same_cell_has_the_same_inputs_and_weights_everywhere():
    torch.manual_seed(1)
    first = Subject(cell(scope="layer")).call()
    torch.manual_seed(2)
    assert torch.equal(first, Subject(cell(scope="layer")).call())


@pytest.mark.slow
def test_compiling_changes_the_call_and_not_the_result():
    compiled = Subject(cell(compile="inductor"))
    assert compiled.call is not compiled.eager_call
    assert torch.allclose(compiled.call(), compiled.eager_call(), atol=1e-5)
