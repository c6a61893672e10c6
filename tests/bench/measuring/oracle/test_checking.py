"""The check looks at the call that is timed, before the rounds and after them."""

import gc
from pathlib import Path
from unittest.mock import Mock

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

import attentions
from bench.measuring.oracle import checking, expected
from bench.measuring.oracle.checking import (
    Incorrect,
    _kept_at,
    after_rounds,
    check,
    keep,
    refuse_uninitialised,
)
from bench.measuring.subject import Subject
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
@pytest.mark.parametrize(("scope", "seq_len"), [("core", 300), ("layer", 32)])
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


DAMAGED = {
    "missing": Path.unlink,
    "empty": lambda path: path.write_bytes(b""),
    "noise": lambda path: path.write_bytes(b"\x80\x02noise"),
    "another": lambda path: torch.save({"pieces": [], "state": {}}, path),
}


@pytest.mark.parametrize("damage", DAMAGED.values(), ids=DAMAGED.keys())
def test_where_what_a_trial_left_was_damaged_the_oracle_is_asked_again(few_pairs, damage):
    one = cell()
    keep(one, check(Subject(one)).expected)
    damage(_kept_at(one))
    after_rounds(one, Subject(one))
    wrong = Subject(one)
    wrong.runner = lambda q, k, v: v + q
    with pytest.raises(Incorrect, match="after the rounds"):
        after_rounds(one, wrong)
    _kept_at(one).unlink(missing_ok=True)


def run(monkeypatch, forward, name="linear", **changes):
    """Findings about a mechanism with another forward pass."""
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
    cls = attentions.attention_class("uniform")
    monkeypatch.setattr(cls, "reference", attentions.Attention.reference)
    found = run(monkeypatch, lambda self, q, k, v: v[..., -1:, :].expand_as(v), name="uniform")
    assert found.is_view, "wherever it begins"


@pytest.mark.parametrize(("seq_len", "dtype"), [(2, "float32"), (32, "bfloat16"), (257, "float32")])
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


def test_a_rounding_that_depends_on_later_tokens_is_no_leak(monkeypatch):
    def forward(self, q, k, v):
        means = v.cumsum(dim=-2) / torch.arange(1, 1 + v.shape[-2])[:, None]
        return means * (1 + 1.2e-7 * float(v[..., -1, 0].sum() > 0))

    monkeypatch.setattr(
        attentions.attention_class("uniform"), "reference", attentions.Attention.reference
    )
    assert not run(monkeypatch, forward, name="uniform", causal=True).leaks_future


def test_features_that_are_drawn_anew_in_training_are_no_fault(few_pairs):
    def draw(core, _):
        return core.redraw() if core.training else None

    one = cell("performer", mode="forward_backward")
    timed = Subject(one)
    keep(one, check(timed).expected)
    timed = Subject(one)
    timed.module.register_forward_pre_hook(draw)
    for _ in range(2):
        timed.call()
        after_rounds(one, timed)
        assert timed.module.training


def test_a_step_of_training_leaves_other_weights_and_they_are_no_fault(few_pairs):
    one = cell("linear", mode="train_step", scope="layer")
    timed = Subject(one)
    timed.call()
    keep(one, check(timed).expected)
    for _ in range(5):
        timed.call()
    torch.nn.init.ones_(timed.parameters[0])
    after_rounds(one, timed)


def without_gradient_of(place):
    """Softmax whose gradient of q, k or v is half of the right one."""

    def forward(self, *tensors):
        parts = list(tensors)
        x = parts[place]
        parts[place] = x.detach() + 0.5 * (x - x.detach())
        return scaled_dot_product_attention(*parts)

    return forward


@pytest.mark.parametrize(("place", "name"), [(0, "q"), (1, "k"), (2, "v")])
def test_the_gradient_of_each_input_is_checked(monkeypatch, place, name):
    with pytest.raises(Incorrect, match=f"gradient of input {name} differs"):
        run(monkeypatch, without_gradient_of(place), name="softmax", mode="forward_backward")


def test_what_is_wrong_in_training_only_is_refused(monkeypatch):
    def forward(self, q, k, v):
        out = scaled_dot_product_attention(q, k, v)
        return 1.1 * out if self.training else out

    assert run(monkeypatch, forward, name="softmax").max_error < 1e-4
    with pytest.raises(Incorrect, match="output differs"):
        run(monkeypatch, forward, name="softmax", mode="forward_backward")


def test_the_share_that_is_checked_is_one_of_the_batch_as_well(few_pairs):
    found = check(Subject(cell("none", seq_len=64, batch_size=5)))
    assert (found.checked_len, found.checked_share) == (64, pytest.approx(4 / 5))
    both = cell("none", seq_len=64, batch_size=5, mode="forward_backward")
    assert check(Subject(both)).checked_share == pytest.approx(1 / 5)
    found = check(Subject(cell("softmax", seq_len=200, batch_size=5)))
    assert found.checked_share == pytest.approx(64 / 200 / 5)
    assert check(Subject(cell("linear", mode="decode", causal=True))).checked_share == 1


@pytest.mark.parametrize(
    ("name", "mode"),
    [*(("gla", mode) for mode in MODES), ("deltanet", "forward_backward")],
)
def test_gated_mechanisms_are_right_with_their_gates_before_the_rounds_and_after(
    monkeypatch, tmp_path, name, mode
):
    monkeypatch.setattr(checking, "workers_folder", lambda: tmp_path)
    one = cell(name, mode=mode, causal=True)
    found = check(Subject(one))
    assert found.oracle == "reference" and not found.leaks_future
    keep(one, found.expected)
    timed = Subject(one)
    timed.call()
    after_rounds(one, timed)


def test_a_gate_that_is_not_heeded_is_a_wrong_output(monkeypatch):
    cls = attentions.attention_class("gated_deltanet")
    forward = cls.forward

    def without_decay(self, q, k, v, *, beta=None, log_decay=None, key_mask=None):
        return forward(self, q, k, v, beta=beta, key_mask=key_mask)

    monkeypatch.setattr(cls, "forward", without_decay)
    with pytest.raises(Incorrect, match="output differs"):
        check(Subject(cell("gated_deltanet", causal=True)))


class Later(torch.Tensor):
    """Might compute when it is first used."""


def test_a_tensor_of_a_class_of_its_own_is_refused_as_output_and_as_gradient(monkeypatch):
    def forward(self, q, k, v):
        return scaled_dot_product_attention(q, k, v).as_subclass(Later)

    with pytest.raises(Incorrect, match="it returns a Later, a subclass of Tensor that may comp"):
        run(monkeypatch, forward, name="softmax")

    class Scaled(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.clone()

        @staticmethod
        def backward(ctx, gradient):
            return gradient.as_subclass(Later)

    def differentiated(self, q, k, v):
        return scaled_dot_product_attention(Scaled.apply(q), k, v)

    with pytest.raises(Incorrect, match="a plain tensor is needed"):
        run(monkeypatch, differentiated, name="softmax", mode="forward_backward")


@pytest.mark.parametrize("mode", ["forward", "forward_backward"])
def test_what_reads_memory_that_nobody_wrote_is_refused_and_what_writes_it_first_is_not(
    monkeypatch, mode
):
    def reads(self, q, k, v):
        return v + 0 * torch.empty_like(v)

    def writes(self, q, k, v):
        return v + torch.empty_like(v).zero_()

    for forward in (reads, writes):
        monkeypatch.setattr(attentions.attention_class("none"), "forward", forward)
        subject = Subject(cell("none", mode=mode))
        if forward is writes:
            refuse_uninitialised(subject)
            continue
        with pytest.raises(Incorrect, match="reads uninitialised memory: its result is NaN"):
            refuse_uninitialised(subject)
        assert not torch.are_deterministic_algorithms_enabled()
        assert torch.utils.deterministic.fill_uninitialized_memory


@pytest.mark.parametrize("mode", ["forward", "forward_backward"])
def test_no_answer_of_the_oracle_is_in_the_heap_while_the_mechanism_runs(
    monkeypatch, tmp_path, mode
):
    monkeypatch.setattr(checking, "workers_folder", lambda: tmp_path)
    found = []

    def forward(self, q, k, v):
        for x in gc.get_objects():
            if type(x) is torch.Tensor and x.dtype is torch.float64 and x.shape == v.shape:
                found.append(x)
        return scaled_dot_product_attention(q, k, v)

    cls = attentions.attention_class("softmax")
    monkeypatch.setattr(cls, "forward", forward)
    monkeypatch.setattr(
        cls, "reference", Mock(side_effect=AssertionError("softmax is written out"))
    )
    one = cell("softmax", mode=mode, dtype="float32")
    subject = Subject(one)
    keep(one, check(subject).expected)
    after_rounds(one, subject)
    assert found == []
