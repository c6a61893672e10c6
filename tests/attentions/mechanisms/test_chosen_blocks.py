"""MoBA and NSA, small enough to leave blocks out, against forms that share no code with them."""

from dataclasses import replace

import pytest
import torch

from attentions import Geometry, build_attention
from attentions.testing.forms import gates_of
from tests.attentions.calls import call_of, in_steps
from tests.attentions.mechanisms import explicit

N, D, E = 75, 8, 6
SETTINGS = {
    "moba": {"block_size": 8, "top_k": 3},
    "nsa": {"block_size": 4, "num_blocks": 5, "window": 9},
}
every = pytest.mark.parametrize("name", SETTINGS)


def expected_of(name, tensors, gates):
    return getattr(explicit, name)(*tensors, **gates, **SETTINGS[name])


def called(name, kv_heads=2, n=N, tile=16):
    torch.manual_seed(5)
    geometry = Geometry(
        num_heads=4, num_kv_heads=kv_heads, head_dim=D, value_dim=E, seq_len=n, causal=True
    )
    core = build_attention(name, geometry, **SETTINGS[name]).double()
    getattr(core, "core", core).tile = tile
    for parameter in core.parameters():
        torch.nn.init.normal_(parameter)
    sizes = ((4, D), (kv_heads, D), (kv_heads, E))
    tensors = [torch.randn(2, heads, n, width, dtype=torch.double) for heads, width in sizes]
    return core, tensors, gates_of(core, tensors)


@every
@pytest.mark.parametrize("kv_heads", [4, 2, 1])
def test_outputs_and_gradients_are_those_of_the_formula(name, kv_heads):
    core, tensors, gates = called(name, kv_heads)
    given = [x.requires_grad_() for x in (*tensors, *gates.values())]
    out, expected = core(*tensors, **gates), expected_of(name, tensors, gates)
    torch.testing.assert_close(out, expected)
    cotangent = torch.randn_like(out)
    ours, theirs = (torch.autograd.grad(x, given, cotangent) for x in (out, expected))
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(core.reference(*tensors, **gates), expected)


@every
def test_a_part_of_a_prompt_may_begin_within_a_block(name):
    core, tensors, gates = called(name, tile=4)  # long for such tiles
    out, _ = in_steps(core, tensors, (3, 1, 38, 33), gates)
    torch.testing.assert_close(out, expected_of(name, tensors, gates))


@every
def test_where_nothing_can_be_left_out_pairs_are_hidden(name, monkeypatch):
    core, tensors, gates = called(name)
    given = [x.requires_grad_() for x in (*tensors, *gates.values())]
    out = core(*tensors, **gates)
    monkeypatch.setattr("attentions.engines.chosen_blocks.is_eager_cpu", lambda *_: False)
    again, cotangent = core(*tensors, **gates), torch.randn_like(out)
    torch.testing.assert_close(again, out)
    ours, theirs = (torch.autograd.grad(x, given, cotangent) for x in (out, again))
    torch.testing.assert_close(ours, theirs)


def test_learned_shares_of_nsa_get_the_gradients_of_the_formula():
    core, tensors, gates = called("nsa")
    shares = (x[None, :, None].expand(2, -1, N) for x in core.gate_logit.sigmoid())
    expected = expected_of("nsa", tensors, dict(zip(gates, shares, strict=True)))
    out = core(*tensors)
    torch.testing.assert_close(out, expected)
    cotangent = torch.randn_like(out)
    ours, theirs = (torch.autograd.grad(x, core.gate_logit, cotangent) for x in (out, expected))
    torch.testing.assert_close(ours, theirs)


def test_a_decoded_token_scores_the_blocks_that_are_whole():
    geometry = Geometry(num_heads=2, head_dim=4, seq_len=11, causal=True)
    core = build_attention("moba", geometry, block_size=4, top_k=2)
    assert core.decode_flops(call_of(11)) == 2 * 2 * (2 * 4 + 11 * (4 + 4))
    assert core.decode_flops(call_of(8)) == 2 * 2 * 8 * (4 + 4)  # all that there is is seen
    core = build_attention("moba", replace(geometry, seq_len=700, grid=(0, 0)), block_size=64)
    for length, own in ((640, 64), (641, 1)):  # long: pairs that were not chosen are left out
        seen = own + 2 * 64
        assert core.decode_flops(call_of(length)) == 2 * 2 * (10 * 4 + seen * (4 + 4))


@pytest.mark.parametrize(
    ("name", "n"), [("moba", 30), ("moba", 24), ("nsa", 30), ("nsa", 20), ("nsa", 9)]
)
def test_flops_are_those_of_the_weights_that_are_not_zero(name, n):
    geometry = Geometry(num_heads=2, head_dim=D, value_dim=n, seq_len=n, causal=True)
    core = build_attention(name, geometry, **SETTINGS[name]).double()
    q, k = torch.randn(2, 3, 2, n, D).double()
    v = torch.eye(n).double().expand(3, 2, n, n)  # the output is the weights
    shape = call_of(n, D, n, batch_size=3, causal=True)
    size, per_pair = SETTINGS[name]["block_size"], 2 * (D + n)
    if name == "moba":
        scored = 6 * sum(t // size for t in range(n)) if n > 24 else 0  # where it does not see all
        assert core.flops(shape) == per_pair * core(q, k, v).count_nonzero() + 2 * D * scored
        return
    counts = []
    for one in core.gates:
        shares = {gate: torch.full((3, 2, n), float(gate == one)).double() for gate in core.gates}
        counts.append(core(q, k, v, **shares).count_nonzero())
    compressed, chosen, near = counts
    if n == 9:  # the window is all that there is, once more
        near = 0
    assert core.flops(shape) == per_pair * (compressed // size + chosen + near)
