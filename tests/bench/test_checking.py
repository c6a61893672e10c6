"""What is checked is the call that is timed, before the rounds and after them."""

import pytest

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
    monkeypatch.setattr(checking, "workers_folder", lambda: tmp_path)


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
