"""What is checked is the call that is timed, before the rounds and after them."""

import pytest
import torch

import attentions
from bench import checking, expected
from bench.checking import Incorrect, after_rounds, check, keep
from bench.subject import Subject
from tests.records import kernel_cell

__import__("tests.misbehaving")


def cell(name="good", **changes):
    return kernel_cell(name, **({"seq_len": 32, "num_heads": 2, "head_dim": 8} | changes))


@pytest.fixture
def few_pairs(monkeypatch, tmp_path):
    """Oracles that can write out 128 tokens of two heads, 64 with gradients."""
    monkeypatch.setattr(expected, "MAX_PAIRS", {"forward": 2**15, "backward": 2**13})
    monkeypatch.setattr(expected, "FREE_PAIRS", 2**10)
    monkeypatch.setattr(checking, "workers_folder", lambda: tmp_path)


CROSSING = [
    name
    for name in attentions.attention_names()
    if (can := attentions.attention_class(name).capabilities).cross
    and can.bidirectional
    and not can.requires
    and "core" in can.scopes
]


@pytest.mark.parametrize(
    ("name", "changes"),
    [(name, {}) for name in CROSSING]
    + [(name, {"rope": True}) for name in CROSSING if "rope" in attentions.hyperparameters(name)],
)
def test_mechanisms_that_could_be_asked_by_rows_are_right_at_lengths_that_are_too_long(
    few_pairs, name, changes
):
    settings = attentions.hyperparameters(name) | changes
    one = cell(name, seq_len=256, num_heads=4, head_dim=16, hyperparameters=settings)
    found = check(Subject(one))
    assert found.checked_len < 256 or found.checked_share < 1


@pytest.mark.parametrize("causal", [False, True])
def test_a_mechanism_that_refuses_odd_lengths_is_checked_at_a_rounder_one(monkeypatch, causal):
    monkeypatch.setattr(expected, "MAX_PAIRS", {"forward": 2 * 201**2, "backward": 2 * 201**2})
    monkeypatch.setattr(expected, "FREE_PAIRS", 2**10)
    cls = attentions.attention_class("uniform")
    whole = cls.forward

    def picky(self, q, k, v):
        if q.shape[-2] % 32:
            raise RuntimeError("blocks of 32")
        return whole(self, q, k, v)

    monkeypatch.setattr(cls, "forward", picky)
    monkeypatch.setattr(cls, "reference", attentions.Attention.reference)
    assert check(Subject(cell("uniform", seq_len=512, causal=causal))).checked_share == (
        pytest.approx(192 / 512) if causal else 1
    )
    found = check(Subject(cell("none", seq_len=512)))
    assert (found.checked_len, found.checked_share) == (201, 1)


MODES = ["forward", "forward_backward", "backward", "prefill", "decode"]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("scope", ["core", "layer"])
@pytest.mark.parametrize("seq_len", [32, 300])
def test_what_a_trial_leaves_is_what_the_rounds_find(few_pairs, mode, scope, seq_len):
    one = cell("linear", mode=mode, scope=scope, seq_len=seq_len, causal=mode[-1] in "le")
    found = check(Subject(one))
    keep(one, found.expected)
    timed = Subject(one)
    timed.rotate()
    for _ in range(20):
        timed.call()
    places = [x.data_ptr() for x in timed.sets[0]]
    after_rounds(one, timed)
    assert [x.data_ptr() for x in timed.sets[0]] == places


@pytest.mark.parametrize("mode", ["forward", "forward_backward"])
def test_an_answer_that_is_kept_by_address_is_found_in_the_trial_and_after_the_rounds(
    few_pairs, mode
):
    one = cell(mode=mode)
    keep(one, check(Subject(one)).expected)
    timed = Subject(one)
    timed.call()
    answers = {timed.sets[0][0].data_ptr(): timed.forward(timed.sets[0])}
    timed.runner = lambda q, k, v: answers[q.data_ptr()]
    with pytest.raises(Incorrect, match="output differs"):
        check(timed)
    with pytest.raises(Incorrect, match="after the rounds, for values that no call had seen, out"):
        after_rounds(one, timed)


def test_nothing_is_said_of_a_cell_that_was_not_tried(few_pairs):
    after_rounds(cell(), Subject(cell()))


def run(monkeypatch, forward, name="linear", **changes):
    """What is found of a mechanism with another forward pass."""
    monkeypatch.setattr(attentions.attention_class(name), "forward", forward)
    return check(Subject(cell(name, **changes)))


def test_an_input_that_is_changed_is_named_whatever_the_output_is(monkeypatch):
    def forward(self, q, k, v):
        k.zero_()
        return v.mean(dim=-2, keepdim=True).expand_as(v) + q

    with pytest.raises(Incorrect, match="it changes its input k"):
        run(monkeypatch, forward)


def test_an_output_in_the_memory_of_an_input_is_a_view(monkeypatch):
    assert not check(Subject(cell("none"))).is_view
    assert run(monkeypatch, lambda self, q, k, v: v, name="none").is_view


@pytest.mark.parametrize("seq_len", [2, 32, 257])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_causal_form_that_looks_one_token_ahead_leaks(monkeypatch, seq_len, dtype):
    def forward(self, q, k, v):
        return v.cumsum(dim=-2) + v.roll(-1, dims=-2)

    monkeypatch.setattr(
        attentions.attention_class("uniform"), "reference", attentions.Attention.reference
    )
    shape = {"seq_len": seq_len, "dtype": dtype, "causal": True}
    assert not check(Subject(cell("none", **shape))).leaks_future
    found = run(monkeypatch, forward, name="uniform", **shape)
    assert found.leaks_future and found.oracle == "itself"


def test_a_leak_is_told_and_not_refused_where_an_oracle_cannot_write_out_all(
    few_pairs, monkeypatch
):
    def forward(self, q, k, v):
        return v.cumsum(dim=-2) + v.roll(-1, dims=-2)

    monkeypatch.setattr(
        attentions.attention_class("uniform"), "reference", attentions.Attention.reference
    )
    found = run(monkeypatch, forward, name="uniform", seq_len=300, causal=True)
    assert found.leaks_future and found.checked_len == 128


@pytest.mark.parametrize("mode", ["forward", "prefill", "forward_backward"])
@pytest.mark.parametrize("scope", ["core", "layer"])
def test_no_causal_form_of_ours_leaks(mode, scope):
    for name in ("softmax", "linear", "performer"):
        found = check(Subject(cell(name, mode=mode, scope=scope, causal=True, seq_len=100)))
        assert not found.leaks_future


def test_rows_that_are_left_out_are_found_without_any_oracle(monkeypatch):
    def forward(self, q, k, v):
        out = v.clone()
        out[..., 24:, :] = 0
        return out

    for name in ("none", "uniform"):
        cls = attentions.attention_class(name)
        monkeypatch.setattr(cls, "reference", attentions.Attention.reference)
        with pytest.raises(Incorrect, match="output is zero in 25% of its rows"):
            run(monkeypatch, forward, name=name)


@pytest.mark.parametrize("interval", [1, 3])
def test_features_that_are_drawn_anew_in_training_are_no_fault(few_pairs, interval):
    settings = {"hyperparameters": {"redraw_interval": interval}, "mode": "forward_backward"}
    one = cell("performer", **settings)
    timed = Subject(one)
    timed.call()
    keep(one, check(timed).expected)
    timed = Subject(one)
    for _ in range(interval + 1):
        timed.call()
        after_rounds(one, timed)


def test_a_step_of_training_leaves_other_weights_and_they_are_no_fault(few_pairs):
    one = cell("linear", mode="train_step", scope="layer")
    timed = Subject(one)
    timed.call()
    keep(one, check(timed).expected)
    for _ in range(5):
        timed.call()
    torch.nn.init.ones_(timed.parameters[0])
    after_rounds(one, timed)
