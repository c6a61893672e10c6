"""Scores by hand, and on a model of which it is known what it looks at."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from bench.measuring.tasks.base import Batch
from bench.studies.explain.scores import curves, located, over_images, over_models

OWN = torch.tensor([[True, False, False, False]])
BOTH = torch.tensor([[True, True, False, False]])


def test_where_relevance_lies():
    found = located(torch.tensor([[0.3, 0.1, 0.6, 0.0]]), OWN, BOTH)
    assert found["pointing"].tolist() == [0]
    assert found["mass"].tolist() == pytest.approx([0.3])
    assert found["own"].tolist() == pytest.approx([0.75])
    assert located(torch.tensor([[0.7, 0.1, 0.2, 0.0]]), OWN, BOTH)["pointing"].tolist() == [1]


def test_without_another_digit_there_is_none_to_be_told_from():
    assert located(torch.ones(1, 4), OWN, OWN)["own"].isnan().all()
    assert located(torch.tensor([[0.0, 0.0, 1.0, 0.0]]), OWN, BOTH)["own"].isnan().all()


class LooksAtOne(nn.Module):
    """Answers class 1 as far as its third token is shown."""

    def forward(self, inputs, positions=None):
        seen = inputs[:, 2, 0]
        return torch.stack([-9 * seen, 9 * seen], dim=-1)


def test_the_right_order_inserts_early_and_deletes_early():
    batch = Batch(inputs=torch.ones(1, 9, 1), targets=torch.tensor([1]))
    blank, classes = -torch.ones(1, 9, 1), torch.tensor([1])

    def areas_for(best):
        relevance = torch.linspace(0.1, 0.2, 9)[None].clone()
        relevance[0, 2] = 1.0 if best else 0.0
        found = curves(LooksAtOne(), batch, classes, relevance, blank)
        return {name: points.mean() for name, points in found.items()}

    # Ten shares of nine tokens: the third token is shown in nine of them, or in the last alone.
    assert areas_for(best=True)["insertion"].item() == pytest.approx(0.9, abs=1e-6)
    assert areas_for(best=True)["deletion"].item() == pytest.approx(0.1, abs=1e-6)
    assert areas_for(best=False)["insertion"].item() == pytest.approx(0.1, abs=1e-6)
    assert areas_for(best=False)["deletion"].item() == pytest.approx(0.9, abs=1e-6)


def test_an_interval_over_images_leaves_out_those_without_a_number():
    samples = np.array([0.0, 1.0] * 50 + [math.nan] * 20)
    found = over_images(samples)
    assert found.value == 0.5
    # The standard error of 100 coins is 0.05.
    assert 0.38 < found.low < 0.43 and 0.57 < found.high < 0.62
    assert over_images(np.array([1.0, math.nan])) is None


def test_an_interval_over_models_is_of_their_means_and_of_one_model_over_its_images():
    low, high = np.array([0.1, 0.3, math.nan]), np.array([0.5, 0.7, 0.6])
    found = over_models([low, high])
    # Means .2 and .6, half a difference of .2, Student's t of 12.7.
    assert found.value == pytest.approx(0.4)
    assert found.high - found.value == pytest.approx(12.706 * 0.2, rel=1e-3)
    assert over_models([high]) == over_images(high)
    assert over_models([low, np.array([math.nan])]) is None
