import base64
import math
import zlib

import numpy as np
import pytest
from scipy import stats

from bench.core.answers import (
    UNSEEN,
    clustered_error,
    error_of_score,
    losses_of_examples,
    mcnemar,
    right_answers,
)


def packed(bits):
    return base64.b64encode(zlib.compress(np.packbits(bits).tobytes())).decode()


@pytest.mark.parametrize("num_answers", [1, 8, 9, 4000])
def test_answers_come_out_as_they_were_packed(num_answers):
    bits = np.random.default_rng(0).integers(0, 2, num_answers).astype(np.uint8)
    assert np.array_equal(right_answers(packed(bits), num_answers), bits)


@pytest.mark.parametrize(
    "damaged",
    [
        "not base64!",
        base64.b64encode(b"no zlib").decode(),
        packed(np.ones(8, dtype=bool)),
        packed(np.ones(10**6, dtype=bool)),
    ],
)
def test_answers_that_are_damaged_or_of_another_number_are_refused(damaged):
    with pytest.raises(ValueError, match="answers"):
        right_answers(damaged, 20)


def test_the_error_of_clusters_is_that_of_their_means():
    draw = np.random.default_rng(0)
    answers = draw.normal(size=(50, 4)) + draw.normal(size=(50, 1))
    error, degrees = clustered_error(answers.ravel(), 4, ends=(0.0, 0.0))
    unseen = UNSEEN * 16 * 2 * answers.mean() ** 2 / 200**2
    expected = stats.sem(answers.mean(axis=1))
    assert error == pytest.approx(math.sqrt(expected**2 + unseen)) and degrees == 49
    assert error > 1.2 * clustered_error(answers.ravel())[0]


def test_a_last_cluster_that_is_cut_short_counts_with_what_it_has():
    answers = np.array([1.0, 1.0, 0.0, 0.0, 1.0])
    error, degrees = clustered_error(answers, 2)
    beyond = 2 * 0.4, -2 * 0.6, 0.4
    unseen = UNSEEN * 4 * (0.6**2 + 0.4**2)
    assert degrees == 2
    assert error == pytest.approx(math.sqrt(1.5 * sum(b * b for b in beyond) + unseen) / 5)


def test_two_models_are_told_apart_by_the_answers_that_one_of_them_had_right():
    first = np.array([1] * 10 + [0] * 2 + [1] * 50 + [0] * 50)
    second = np.array([0] * 10 + [1] * 2 + [1] * 50 + [0] * 50)
    found = mcnemar(first, second)
    assert (found.only_first, found.only_second) == (10, 2)
    assert found.p_value == pytest.approx(stats.binomtest(2, 12).pvalue)
    assert str(found).startswith("these two trained models: 10 answers right in the first alone")
    assert mcnemar(second, first).p_value == found.p_value
    assert mcnemar(first, first).p_value == 1.0
    assert mcnemar(np.array([1, 0]), np.array([0, 1])).p_value == 1.0
    with pytest.raises(ValueError, match="not of one test set"):
        mcnemar(first, second[1:])


def test_losses_come_out_as_they_were_packed_and_damaged_ones_are_refused():
    losses = np.random.default_rng(0).uniform(0, 9, 30).astype("<f2")
    packed_losses = base64.b64encode(zlib.compress(losses.tobytes())).decode()
    assert np.array_equal(losses_of_examples(packed_losses, 300), losses.astype(float))
    with pytest.raises(ValueError, match="window_losses have 21 bytes; 2 for each of 1 to 10"):
        losses_of_examples(packed_losses, 10)
    stream = zlib.compress(losses.tobytes())
    for damaged in (stream[:-4], stream + b"more"):
        with pytest.raises(ValueError, match="end before their zlib stream does, or go on behind"):
            losses_of_examples(base64.b64encode(damaged).decode(), 300)


def test_the_error_of_a_score_without_clusters_is_the_binomial_one():
    right = np.arange(50) < 20
    ones = np.ones(50)
    expected = math.sqrt(0.4 * 0.6 / 49)
    assert error_of_score(right.astype(float), ones) == pytest.approx(expected)
    assert error_of_score(ones[:1], ones[:1]) is None
    assert error_of_score(ones, ones) == 0


def test_the_error_of_a_score_is_the_spread_over_test_sets_drawn_anew():
    # Examples of one to eight answers; each example has a share of its own.
    draw = np.random.default_rng(0)
    scores, errors = [], []
    for _ in range(2000):
        counts = draw.integers(1, 9, 200)
        sums = draw.binomial(counts, draw.beta(0.5, 0.5, 200)).astype(float)
        scores.append(sums.sum() / counts.sum())
        errors.append(error_of_score(sums, counts))
    spread = float(np.std(scores))
    assert np.mean(errors) == pytest.approx(spread, rel=0.05)
    assert spread > 1.3 * math.sqrt(0.25 / 900)  # that of as many independent answers
