"""`StateCore`: a recurrence that gives its transition or its update alone gets all else."""

import doctest
import inspect

import pytest
import torch
from torch.utils._pytree import tree_leaves

from attentions import (
    Capabilities,
    Gate,
    Geometry,
    StateCore,
    Transition,
    build_attention,
    register_attention,
    registry,
)
from bench.measuring.measure.flops import count
from tests.attentions.calls import call_of

CPU = torch.device("cpu")
CAN = Capabilities(
    bidirectional=False,
    causal=True,
    recurrent=True,
    masks=frozenset({"padding"}),
    gates={"log_decay": Gate("bhn", high=0)},
    position_free=False,
)


def enter(cls, can=CAN, name="mine"):
    return register_attention(name, title="-", source="-", capabilities=can)(cls)


class Fading(StateCore):
    def learned_gates(self, k):
        return {"log_decay": k.new_full((self.geometry.num_heads,), -0.1)}

    def update(self, state, k, v, log_decay):
        return log_decay.exp() * state + k.mT @ v


def geometry(n=70, **sizes):
    return Geometry(num_heads=4, head_dim=8, value_dim=6, seq_len=n, causal=True, **sizes)


def inputs(n=70, kv_heads=4, dtype=torch.double):
    torch.manual_seed(0)
    widths = ((4, 8), (kv_heads, 8), (kv_heads, 6))
    return [torch.randn(2, heads, n, width, dtype=dtype) for heads, width in widths]


def test_the_example_of_the_docstring_runs():
    runner = doctest.DocTestRunner()
    for test in doctest.DocTestFinder(recurse=False).find(StateCore, "StateCore"):
        assert runner.run(test).attempted and not runner.failures


def test_an_update_alone_is_a_whole_mechanism():
    core, theirs = enter(Fading)(geometry()), build_attention("simple_gla", geometry(), scale=1.0)
    gate = -torch.rand(2, 4, 70).double()
    mask = torch.rand(2, 70) < 0.7
    for given in ({"log_decay": gate}, {"log_decay": gate, "key_mask": mask}):
        torch.testing.assert_close(core(*inputs(), **given), theirs(*inputs(), **given))
    assert core(*(x[:0] for x in inputs()), key_mask=mask[:0]).shape == (0, 4, 70, 6)
    out = core(*(x.bfloat16() for x in inputs()), log_decay=gate.bfloat16())
    assert out.dtype == torch.bfloat16
    state = core.init_state(2, dtype=torch.bfloat16, device=CPU)
    assert state.dtype == torch.float32
    assert core.reference(*inputs()) is None  # it would be forward itself


class FadingByTransition(Fading):
    update = StateCore.update

    def transition(self, k, v, log_decay):
        return Transition(k, v, log_decay)


def test_a_transition_gives_what_an_update_gives_and_a_reference_too():
    slow, core = enter(Fading)(geometry()), enter(FadingByTransition, name="ours")(geometry())
    given = {"log_decay": -torch.rand(2, 4, 70).double()}
    out = slow(*inputs(), **given)
    torch.testing.assert_close(core(*inputs(), **given), out)
    torch.testing.assert_close(core.reference(*inputs(), **given), out)
    state = core.init_state(2, dtype=torch.double, device=CPU)
    torch.testing.assert_close(core.step(*inputs(), state, **given)[0], out)
    shape = call_of(70, 8, 6, batch_size=2, num_heads=4, causal=True)
    assert core.flops(shape) == slow.flops(shape) == 4 * 2 * 4 * 70 * 8 * 6


@pytest.mark.parametrize(
    ("name", "products", "settings"),
    [
        *(("gla", 2, {}), ("kda", 3, {}), ("comba", 3, {}), ("rwkv7", 4, {})),
        ("gated_deltaproduct", 7, {"num_householder": 3}),
    ],
)
def test_flops_count_the_products_of_a_token(name, products, settings):
    shape = call_of(70, 8, 6, batch_size=2, num_heads=4, causal=True)
    core = build_attention(name, geometry(), **settings)
    assert core.flops(shape) == products * 2 * 2 * 4 * 70 * 8 * 6


def test_a_core_without_transition_and_update_says_what_it_needs():
    class Nothing(StateCore):
        learned_gates = Fading.learned_gates

    with pytest.raises(TypeError, match="mine: a StateCore needs a method transition or update"):
        enter(Nothing)(geometry())(*inputs())


def test_signatures_name_the_gates_and_checks_stand_before_them():
    core = enter(Fading)(geometry())
    assert [*inspect.signature(Fading.forward).parameters][4:] == ["key_mask", "log_decay"]
    assert [*inspect.signature(Fading.step).parameters][5:] == ["key_mask", "log_decay"]
    with pytest.raises(ValueError, match="it takes no such argument"):
        core(*inputs(), log_decy=torch.zeros(2, 4, 70))
    state = core.init_state(2, dtype=torch.double, device=CPU)
    with pytest.raises(ValueError, match="it takes no such argument for a step"):
        core.step(*inputs(), state, log_decy=torch.zeros(2, 4, 70))
    with pytest.raises(ValueError, match="state is of type tuple; a Tensor is needed"):
        core.step(*inputs(), (state,))
    with pytest.raises(ValueError, match=r"log_decay is .* of shape \(2, 4, 70\) is needed"):
        core(*inputs(), log_decay=torch.zeros(2, 4, 70, 8))


def test_a_learned_gate_may_follow_from_shared_keys():
    class OfKeys(Fading):
        def learned_gates(self, k):
            return {"log_decay": -k.square().mean(dim=-1)}

    grouped = enter(OfKeys)(geometry(num_kv_heads=2))
    q, k, v = inputs(kv_heads=2)
    whole = OfKeys(geometry())(q, *(x.repeat_interleave(2, dim=1) for x in (k, v)))
    torch.testing.assert_close(grouped(q, k, v), whole)


@pytest.mark.parametrize("kv_heads", [1, 2])
def test_grouped_heads_are_copied_a_few_at_a_time(kv_heads, monkeypatch):
    monkeypatch.setattr("attentions.maths.heads._CACHED", 2 * 70 * 8 * 3)  # three heads in a part
    q, k, v = inputs(kv_heads=kv_heads)
    own = [x.repeat_interleave(4 // kv_heads, 1) for x in (k, v)]
    core = build_attention("kda", geometry(num_kv_heads=kv_heads))
    torch.testing.assert_close(core(q, k, v), core.core(q, *own))


@pytest.mark.parametrize(
    "name",
    [
        *("kda", "rwkv7", "deltanet", "gated_deltaproduct", "comba", "gsa", "log_linear"),
        *("mamba3", "mesanet", "rwkv6"),
    ],
)
@pytest.mark.parametrize("n", [1, 64, 100, 257])
@torch.no_grad()
def test_executed_flops_of_short_runs_are_those_of_the_whole(name, n):
    settings = {"num_householder": 3} if name == "gated_deltaproduct" else {}
    core, tensors = build_attention(name, geometry(n), **settings), inputs(n, dtype=torch.float32)
    shape = call_of(n, 8, 6, batch_size=2, num_heads=4, causal=True)
    assert core.executed_flops(shape) == count(lambda: core(*tensors)).counted_flops


def recurrences():
    """Our own mechanisms with a state that does not grow."""
    kinds = map(registry.attention_class, registry.attention_names())
    ours = (k for k in kinds if issubclass(k, StateCore) and not k.capabilities.requires)
    return [kind.name for kind in ours if kind.capabilities.recurrent]


@pytest.mark.parametrize("name", recurrences())
def test_a_state_keeps_no_more_memory_than_its_numbers_take(name):
    """A view of the last token would keep those of the whole sequence."""
    core = build_attention(name, geometry())
    state = core.init_state(2, dtype=torch.float32, device=CPU)
    with torch.no_grad():
        _, state = core.step(*inputs(dtype=torch.float32), state)
    for leaf in tree_leaves(state):
        if isinstance(leaf, torch.Tensor):
            assert leaf.untyped_storage().nbytes() == leaf.nbytes


@pytest.mark.parametrize("length", [1, 70])
@pytest.mark.parametrize("name", recurrences())
def test_tokens_that_their_owner_overwrites_change_no_state(name, length):
    core, tensors = build_attention(name, geometry()), inputs(length, dtype=torch.float32)
    state = core.init_state(2, dtype=torch.float32, device=CPU)
    with torch.no_grad():
        _, state = core.step(*tensors, state)
        before = [x.clone() for x in tree_leaves(state) if isinstance(x, torch.Tensor)]
        for x in tensors:
            x.zero_()
    after = [x for x in tree_leaves(state) if isinstance(x, torch.Tensor)]
    assert all(map(torch.equal, after, before))
