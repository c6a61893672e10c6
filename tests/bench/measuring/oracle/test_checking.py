"""The check looks at the call that is timed, before the rounds and after them."""

from pathlib import Path

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

import attentions
from bench.measuring.oracle import checking, expected
from bench.measuring.oracle.checking import Incorrect, _kept_at, after_rounds, check, keep
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


BY_ROWS = [
    *((name, {}) for name in ("softmax", "linear", "performer", "topk")),
    ("nala", {"rope": True}),
]


@pytest.mark.parametrize(("name", "changes"), BY_ROWS)
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


@pytest.mark.parametrize("mode", ["forward", "prefill", "forward_backward"])
@pytest.mark.parametrize("scope", ["core", "layer"])
def test_no_causal_form_of_ours_leaks(mode, scope):
    for name in ("softmax", "linear", "performer"):
        subject = Subject(cell(name, mode=mode, scope=scope, causal=True, seq_len=100))
        assert not check(subject).leaks_future
        assert subject.module.training == (mode == "forward_backward"), "as it was"


def test_a_rounding_that_depends_on_later_tokens_is_no_leak(monkeypatch):
    def forward(self, q, k, v):
        means = v.cumsum(dim=-2) / torch.arange(1, 1 + v.shape[-2])[:, None]
        return means * (1 + 1.2e-7 * float(v[..., -1, 0].sum() > 0))

    monkeypatch.setattr(
        attentions.attention_class("uniform"), "reference", attentions.Attention.reference
    )
    assert not run(monkeypatch, forward, name="uniform", causal=True).leaks_future


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


def test_a_gradient_of_what_the_output_does_not_depend_on_is_refused(monkeypatch):
    def forward(self, q, k, v):
        return v + (q - q.detach())

    with pytest.raises(Incorrect, match="gradient of input q should be zero and reaches"):
        run(monkeypatch, forward, name="none", mode="forward_backward")


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


def gated(monkeypatch, change, **settings):
    """Findings about a Gated DeltaNet whose gates something is done to."""
    cls = attentions.attention_class("gated_deltanet")
    forward = cls.forward

    def other(self, q, k, v, *, beta=None, log_decay=None, key_mask=None):
        beta, log_decay = change(beta, log_decay)
        return forward(self, q, k, v, beta=beta, log_decay=log_decay, key_mask=key_mask)

    monkeypatch.setattr(cls, "forward", other)
    return check(Subject(cell("gated_deltanet", **({"causal": True} | settings))))


def test_a_gate_that_is_not_heeded_is_a_wrong_output(monkeypatch):
    with pytest.raises(Incorrect, match="output differs"):
        gated(monkeypatch, lambda beta, log_decay: (beta, None))


def test_a_leak_through_gates_alone_is_seen(monkeypatch):
    cls = attentions.attention_class("gated_deltanet")
    monkeypatch.setattr(cls, "reference", attentions.Attention.reference)
    assert not check(Subject(cell("gated_deltanet", causal=True))).leaks_future
    found = gated(monkeypatch, lambda beta, log_decay: (beta.roll(-1, dims=-1), log_decay))
    assert found.leaks_future
