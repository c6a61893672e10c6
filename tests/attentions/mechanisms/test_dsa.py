"""DSA with fewer keys than there are, against a form that shares no code, and its indexer."""

import pytest
import torch

from attentions import Geometry, build_attention
from tests.attentions.calls import call_of
from tests.attentions.mechanisms import explicit

N, D, E, TOP, HEADS, WIDTH = 45, 8, 6, 7, 9, 5


def called(kv_heads=2):
    torch.manual_seed(2)
    geometry = Geometry(
        num_heads=4, num_kv_heads=kv_heads, head_dim=D, value_dim=E, seq_len=N, causal=True
    )
    settings = {"top_k": TOP, "index_heads": HEADS, "index_dim": WIDTH}
    core = build_attention("dsa", geometry, **settings).double()
    sizes = ((4, N, D), (kv_heads, N, D), (kv_heads, N, E))
    tensors = [torch.randn(2, *size, dtype=torch.double) for size in sizes]
    index = {
        "index_q": torch.randn(2, HEADS, N, WIDTH).double(),
        "index_k": torch.randn(2, N, WIDTH).double(),
        "index_weight": torch.randn(2, HEADS, N).double(),
    }
    return core, tensors, index


@pytest.mark.parametrize("kv_heads", [4, 2, 1])
def test_outputs_and_gradients_are_those_of_the_formula(kv_heads):
    core, tensors, index = called(kv_heads)
    given = [x.requires_grad_() for x in (*tensors, *index.values())]
    out, expected = core(*tensors, **index), explicit.dsa(*tensors, **index, top_k=TOP)
    torch.testing.assert_close(out, expected)
    torch.testing.assert_close(core.reference(*tensors, **index), expected)
    cotangent = torch.randn_like(out)
    ours = torch.autograd.grad(out, given, cotangent, allow_unused=True)
    theirs = torch.autograd.grad(expected, tensors, cotangent)
    torch.testing.assert_close(ours[:3], theirs)
    assert ours[3:] == (None, None, None)  # the indexer gets no gradient


def test_a_hidden_token_is_answered_by_its_own_index():
    core, (q, k, v), index = called()
    key_mask = (torch.arange(N) < N - 1).expand(2, -1)
    out = core(q, k, v, key_mask=key_mask, **index)[:, :, -1]
    # In place of the last token that is kept, it sees the same keys.
    q, index_q, weight = (
        torch.cat((x[:, :, :-2], x[:, :, -1:]), dim=2)
        for x in (q, index["index_q"], index["index_weight"])
    )
    moved = {"index_q": index_q, "index_k": index["index_k"][:, :-1], "index_weight": weight}
    torch.testing.assert_close(core(q, k[:, :, :-1], v[:, :, :-1], **moved)[:, :, -1], out)


def test_of_equal_scores_the_later_keys_are_chosen(qkv):
    q, k, v = qkv(1, 2, N, D)
    geometry = Geometry(num_heads=2, head_dim=D, seq_len=N, causal=True)
    core = build_attention("dsa", geometry, top_k=TOP)
    window = build_attention("sliding_window", geometry, window=TOP - 1)
    torch.testing.assert_close(core(q, k, v), window(q, k, v))


def test_the_indexer_learns_the_weights_of_the_heads_over_what_it_chose():
    core, tensors, index = called(4)
    index = {name: x.requires_grad_() for name, x in index.items()}
    q, k, _ = (x.requires_grad_() for x in tensors)
    loss = core.auxiliary_loss(*tensors, **index)
    grads = torch.autograd.grad(loss, [q, k, *index.values()], allow_unused=True)
    assert grads[:2] == (None, None)
    assert all(grad.abs().sum() > 0 for grad in grads[2:])
    expected = []
    for row in range(2):
        for t in range(N):
            guess = torch.einsum("gw,sw->gs", index["index_q"][row, :, t], index["index_k"][row])
            guess = (guess.relu() * index["index_weight"][row, :, t, None]).sum(0)[: t + 1]
            best = guess.topk(min(TOP, t + 1)).indices
            weights = (k[row, :, best] @ q[row, :, t, :, None])[..., 0] / D**0.5
            target = weights.softmax(-1).mean(0)
            found = guess[best].log_softmax(0)
            expected.append((target * (target.log() - found)).sum())
    torch.testing.assert_close(loss, torch.stack(expected).mean())


@pytest.mark.parametrize("n", [N, TOP])
def test_flops_are_those_of_all_index_scores_and_of_the_weights_that_are_not_zero(n):
    geometry = Geometry(num_heads=2, head_dim=D, value_dim=n, seq_len=n, causal=True)
    core = build_attention("dsa", geometry, top_k=TOP, index_heads=HEADS, index_dim=WIDTH).double()
    q, k = torch.randn(2, 3, 2, n, D).double()
    weights = core(q, k, torch.eye(n).double().expand(3, 2, n, n))
    scored = 3 * n * (n + 1) // 2 if n > TOP else 0
    expected = 2 * scored * HEADS * WIDTH + 2 * (D + n) * int(weights.count_nonzero())
    assert core.flops(call_of(n, D, n, batch_size=3, causal=True)) == expected
