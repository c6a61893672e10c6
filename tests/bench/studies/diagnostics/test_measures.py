import math

import pytest
import torch

from bench.studies.diagnostics.measures import (
    condition_of_sum,
    divergence,
    effective_rank,
    entropy,
    mean_distance,
    rank,
    rank_correlation,
    relative_entropy,
    relative_error,
    row_sums,
    share_negative,
    sink_mass,
)


def test_entropy_is_zero_of_one_key_and_ln_m_of_all_alike():
    rows = torch.tensor([[0.0, 3.0, 0.0, 0.0], [2.0, 2.0, 2.0, 2.0]])
    assert torch.allclose(entropy(rows), torch.tensor([0.0, math.log(4)]))
    assert torch.allclose(entropy(rows, relative=True), torch.tensor([0.0, 1.0]))


def test_entropy_does_not_see_the_scale_of_a_row_nor_signs():
    rows = torch.rand(3, 5)
    assert torch.allclose(entropy(rows), entropy(-7 * rows))


def test_effective_rank_counts_equal_singular_values():
    assert effective_rank(torch.eye(6)).item() == pytest.approx(6)
    assert effective_rank(torch.ones(6, 6)).item() == pytest.approx(1, abs=1e-3)
    assert rank(torch.ones(6, 6)).item() == 1
    assert effective_rank(torch.diag(torch.tensor([1.0, 1e-3, 0, 0]))).item() < 1.01


def test_row_sums_and_negative_weights():
    w = torch.tensor([[0.0, 0.5], [2.0, -1.0]])
    assert row_sums(w).tolist() == [0.5, 1]
    assert share_negative(w) == 0.25


def test_rank_correlation_sees_order_only():
    x = torch.tensor([1.0, 2, 3, 4, 5])
    assert rank_correlation(x, x.exp()).item() == pytest.approx(1)
    assert rank_correlation(x, -(x**3)).item() == pytest.approx(-1)
    assert rank_correlation(x, torch.ones(5)).isnan()
    assert rank_correlation(x, torch.tensor([2.0, 1, 4, 3, 5])).item() == pytest.approx(0.8)


def test_ties_share_their_mean_rank():
    x, y = torch.tensor([1.0, 1, 2, 3]), torch.tensor([1.0, 2, 3, 4])
    assert rank_correlation(x, y).item() == pytest.approx(4.5 / (4.5 * 5) ** 0.5)


def test_a_uniform_causal_row_has_all_the_entropy_that_it_can():
    w = torch.ones(4, 4).tril()
    assert relative_entropy(w, causal=True).tolist() == pytest.approx([1, 1, 1])
    assert relative_entropy(torch.eye(4)).tolist() == [0, 0, 0, 0]


def test_distance_is_the_mean_of_the_gaps_by_shares():
    w = torch.tensor([[1.0, 0, 0], [0.5, 0, -0.5], [3, 0, 1]])
    assert mean_distance(w).tolist() == [0, 1, 1.5]


def test_sink_mass_is_what_the_greatest_column_gets():
    w = torch.tensor([[1.0, 0], [2, -2]])
    assert sink_mass(w).item() == 0.75
    assert sink_mass(torch.ones(5, 4)).item() == 0.25
    # Each query has a key of its own, and no key gets more than another.
    assert sink_mass(torch.eye(4)).item() == 0.25
    assert sink_mass(torch.stack([torch.eye(2), w])).tolist() == [0.5, 0.75]


def test_a_sum_that_cancels_is_badly_conditioned():
    w = torch.tensor([[0.5, 0.5], [3.0, -1.0], [1.0, -3.0]])
    assert condition_of_sum(w).tolist() == [1, 2, 2]


def test_error_and_divergence_to_a_target():
    target = torch.tensor([[0.5, 0.5], [0.5, 0.5]])
    w = torch.eye(2)
    assert relative_error(w, target).item() == pytest.approx(1)
    assert divergence(w, target).tolist() == pytest.approx([math.log(2)] * 2)
    assert divergence(7 * target, target).tolist() == [0, 0]
    assert divergence(target, torch.eye(2)).isinf().all()
    assert divergence(torch.eye(2), torch.eye(2)).tolist() == [0, 0]
    assert divergence(torch.tensor([[1.0, -1], [1, 1]]), target).isnan().all()
