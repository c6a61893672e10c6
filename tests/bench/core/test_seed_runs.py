"""Results as a comparison over seeds takes them."""

from dataclasses import replace

import torch

from bench.core.observed import Quality
from bench.core.seed_runs import runs_from
from bench.measuring.tasks.answers import packed_bits

RIGHT = torch.tensor([True, True, True, False])
KEPT = Quality(
    accuracy=0.75,
    chance=0.1,
    guess="any",
    num_examples=4,
    num_parameters=1,
    answers=packed_bits(RIGHT),
    answers_per_cluster=2,
    score_error=0.2,
    test_set="0123456789abcdef",
)


def test_answers_errors_and_the_test_set_are_those_of_the_results():
    found = runs_from({0: KEPT, 1: replace(KEPT, accuracy=0.5, score_error=0.4)})
    assert found.scores == {0: 0.75, 1: 0.5}
    assert found.right[1].tolist() == [1, 1, 1, 0]
    assert (found.per_cluster, found.test_set) == (2, "0123456789abcdef")
    assert found.error == (0.2 + 0.4) / 2


def test_a_seed_without_a_score_stays_among_the_scores():
    assert runs_from({0: KEPT}, {0: 0.75, 1: None}).scores == {0: 0.75, 1: None}


def test_old_results_say_their_number_of_examples_alone():
    old = Quality(accuracy=0.5, chance=0.1, guess="any", num_examples=9, num_parameters=1)
    found = runs_from({0: old, 1: old})
    assert (found.error, found.num_examples, found.right, found.test_set) == (None, 9, {}, "")
    fewer = runs_from({0: old, 1: replace(old, num_examples=5, score_error=0.2)})
    assert (fewer.error, fewer.num_examples) == (None, 5)


def test_results_of_two_test_sets_and_damaged_answers_are_compared_without_answers():
    other = replace(KEPT, test_set="f" * 16)
    assert runs_from({0: KEPT, 1: other}).test_set == ""
    damaged = replace(KEPT, answers="AAAA")
    assert set(runs_from({0: KEPT, 1: damaged}).right) == {0}
    uneven = replace(KEPT, answers_per_cluster=None)
    assert runs_from({0: KEPT, 1: uneven}).right == runs_from({0: uneven}).right == {}
