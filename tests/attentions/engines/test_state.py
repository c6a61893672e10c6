"""What `StateCore` does for a recurrence that gives its update alone."""

import doctest
import inspect
from typing import NamedTuple

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from attentions import (
    CallShape,
    Capabilities,
    Gate,
    Geometry,
    StateCore,
    build_attention,
    register_attention,
    registry,
)

CPU = torch.device("cpu")
CAN = Capabilities(
    bidirectional=False,
    causal=True,
    recurrent=True,
    masks=frozenset({"padding"}),
    gates={"log_decay": Gate("bhn", high=0)},
    position_free=False,
)


@pytest.fixture(autouse=True)
def own_registry(monkeypatch):
    registry.attention_names()
    monkeypatch.setattr(registry, "_REGISTRY", dict(registry._REGISTRY))


def enter(cls, can=CAN):
    return register_attention("mine", title="-", source="-", capabilities=can)(cls)


class Fading(StateCore):
    def learned_gates(self, k):
        return {"log_decay": torch.full((self.geometry.num_heads,), -0.1)}

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
    out = core(*(x.bfloat16() for x in inputs()), log_decay=gate.bfloat16())
    assert out.dtype == torch.bfloat16
    state = core.init_state(2, dtype=torch.bfloat16, device=CPU)
    assert state.dtype == torch.float32
    assert core.reference(*inputs()) is None  # it would be forward itself


def test_signatures_name_the_gates_and_checks_stand_before_them():
    core = enter(Fading)(geometry())
    assert [*inspect.signature(Fading.forward).parameters][4:] == ["key_mask", "log_decay"]
    assert [*inspect.signature(Fading.step).parameters][5:] == ["log_decay"]
    with pytest.raises(ValueError, match="it takes no such argument"):
        core(*inputs(), log_decy=torch.zeros(2, 4, 70))
    state = core.init_state(2, dtype=torch.double, device=CPU)
    with pytest.raises(ValueError, match="it takes no such argument for a step"):
        core.step(*inputs(), state, key_mask=torch.ones(2, 70, dtype=torch.bool))
    with pytest.raises(ValueError, match="state is of type tuple; a Tensor is needed"):
        core.step(*inputs(), (state,))
    with pytest.raises(ValueError, match=r"log_decay is .* of shape \(2, 4, 70\) is needed"):
        core(*inputs(), log_decay=torch.zeros(2, 4, 70, 8))


def test_a_subclass_with_other_gates_gets_its_own_signature():
    class Twice(Fading):
        def learned_gates(self, k):
            return {"pace": torch.full((4,), -0.1)}

    enter(Fading)
    gates = {"pace": Gate("bhn", high=0)}
    can = Capabilities(bidirectional=False, causal=True, gates=gates, position_free=False)
    register_attention("other", title="-", source="-", capabilities=can)(Twice)
    assert [*inspect.signature(Twice.forward).parameters][4:] == ["pace"]
    with pytest.raises(TypeError, match="other has no recurrent form"):
        Twice(geometry()).init_state(2, dtype=torch.double, device=CPU)


def test_a_gate_without_a_value_of_its_own_is_asked_for():
    class Bare(Fading):
        def learned_gates(self, k):
            return {}

    with pytest.raises(ValueError, match=r"mine: log_decay is not given.*\(2, 4, 70\) is needed"):
        enter(Bare)(geometry())(*inputs())


class Two(NamedTuple):
    context: torch.Tensor
    key_sum: torch.Tensor


def test_a_state_may_be_several_tensors_with_a_read_of_its_own():
    class Mean(StateCore):
        def init_state(self, batch_size, *, dtype, device):
            context = super().init_state(batch_size, dtype=dtype, device=device)
            return Two(context, context.new_zeros(*context.shape[:3], 1))

        def update(self, state, k, v):
            return Two(state.context + k.mT @ v, state.key_sum + k.mT)

        def read(self, q, state):
            return q @ state.context / (q @ state.key_sum)

    can = Capabilities(bidirectional=False, causal=True, recurrent=True, position_free=False)
    core, (q, k, v) = enter(Mean, can)(geometry()), inputs()
    q, k = q.exp(), k.exp()
    weights = (q @ k.mT).tril()
    expected = weights @ v / weights.sum(-1, keepdim=True)
    torch.testing.assert_close(core(q, k, v), expected)
    state = core.init_state(2, dtype=torch.double, device=CPU)
    _, state = core.step(q[:, :, :69], k[:, :, :69], v[:, :, :69], state)
    out, state = core.step(q[:, :, 69:], k[:, :, 69:], v[:, :, 69:], state)
    assert isinstance(state, Two)
    torch.testing.assert_close(out, expected[:, :, 69:])


@pytest.mark.parametrize("kv_heads", [1, 2])
def test_grouped_heads_are_copied_a_few_at_a_time(kv_heads, monkeypatch):
    monkeypatch.setattr("attentions.maths.heads._CACHED", 2 * 70 * 8 * 3)  # three heads in a part
    q, k, v = inputs(kv_heads=kv_heads)
    own = [x.repeat_interleave(4 // kv_heads, 1) for x in (k, v)]
    core = build_attention("kda", geometry(num_kv_heads=kv_heads))
    torch.testing.assert_close(core(q, k, v), core.core(q, *own))


@pytest.mark.parametrize(
    ("name", "settings"),
    [("kda", {}), ("rwkv7", {}), ("gated_deltaproduct", {"num_householder": 3}), ("deltanet", {})],
)
@pytest.mark.parametrize("n", [1, 7, 64, 100, 128, 130, 200, 257, 320])
def test_executed_flops_of_short_runs_are_those_of_the_whole(name, settings, n):
    core = build_attention(name, geometry(n), **settings)
    shape = CallShape(
        batch_size=2, num_heads=4, query_len=n, key_len=n, head_dim=8, value_dim=6, causal=True
    )
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        core(*inputs(n, dtype=torch.float32))
    assert core.executed_flops(shape) == counter.get_total_flops()


def test_a_core_that_does_not_claim_its_recurrence_is_told_so():
    class Silent(StateCore):
        def update(self, state, k, v):
            return state + k.mT @ v

    can = Capabilities(bidirectional=False, causal=True, position_free=False)
    core = enter(Silent, can)(Geometry(num_heads=2, head_dim=4, seq_len=3, causal=True))
    with pytest.raises(TypeError, match="do not say recurrent=True"):
        core(*torch.randn(3, 1, 2, 3, 4))
