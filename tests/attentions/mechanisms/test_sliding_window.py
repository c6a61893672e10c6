from functools import partial

import pytest
import torch

from tests.attentions.calls import built, in_steps

CPU = torch.device("cpu")


build = partial(built, "sliding_window", seq_len=7)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize(("seq_len", "window"), [(300, 40), (700, 128)])
def test_tiles_give_what_a_mask_gives(causal, seq_len, window, qkv):
    tensors = [x.requires_grad_() for x in qkv(2, 2, seq_len, 8)]
    core = build(causal, head_dim=8, seq_len=seq_len, window=window)
    out, expected = core(*tensors), core.reference(*tensors)
    torch.testing.assert_close(out, expected)
    cotangent = torch.randn_like(out)
    pairs = (torch.autograd.grad(x, tensors, cotangent) for x in (out, expected))
    for got, want in zip(*pairs, strict=True):
        torch.testing.assert_close(got, want)


@pytest.mark.parametrize("window", [0, 2, 50])
def test_the_state_holds_the_window_and_the_token_itself_and_no_more(window, qkv):
    q, k, v = qkv(1, 2, 20, 4)
    core = build(causal=True, seq_len=20, window=window)
    state = core.init_state(1, dtype=torch.float64, device=CPU)
    ring = state.k.data_ptr()
    assert state.k.untyped_storage().nbytes() == min(window + 1, 20) * 2 * 4 * 8
    for i, part in enumerate(zip(*(x.split(1, dim=2) for x in (q, k, v)), strict=True)):
        _, state = core.step(*part, state)
        assert state.k.data_ptr() == ring
        last = torch.arange(max(0, i - window), i + 1)
        for kept, all_of_them in ((state.k, k), (state.v, v)):
            assert torch.equal(kept[:, :, last % kept.shape[2]], all_of_them[:, :, last])


@pytest.mark.parametrize("window", [0, 3, 40])
@pytest.mark.parametrize("lengths", [[1] * 20, [7, 1, 1, 5, 6], [2, 18], [16, 1, 1, 1, 1]], ids=str)
def test_parts_of_any_length_turn_the_ring_as_the_whole_sequence_does(window, lengths, qkv):
    tensors = qkv(2, 2, 20, 4)
    core = build(causal=True, seq_len=20, window=window)
    torch.testing.assert_close(in_steps(core, tensors, lengths)[0], core(*tensors))


def test_a_sequence_may_grow_without_end_if_the_ring_holds_a_window(qkv):
    q, k, v = qkv(1, 2, 20, 4)
    core = build(causal=True, seq_len=5, window=3)
    whole = build(causal=True, seq_len=20, window=3)(q, k, v)
    torch.testing.assert_close(in_steps(core, (q, k, v), 1)[0], whole)
    small = build(causal=True, seq_len=5, window=9)
    state = small.init_state(1, dtype=torch.float64, device=CPU)
    with pytest.raises(ValueError, match="sliding_window: a state for 5 tokens holds 0, and 6"):
        small.step(*(x[:, :, :6] for x in (q, k, v)), state)
