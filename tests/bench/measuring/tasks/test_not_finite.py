"""Words on what is not finite in a model."""

from functools import partial

import torch
from torch import nn

from bench.measuring.tasks.not_finite import first_not_finite


class Logarithm(nn.Module):
    def forward(self, x):
        return x.log()


def told(model, x):
    return first_not_finite(model, partial(model, x))


def test_a_parameter_is_named_before_any_output():
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    with torch.no_grad():
        model[1].weight[0, 0] = torch.inf
    assert told(model, torch.ones(1, 2)) == "the parameter 1.weight is not finite"
    with torch.no_grad():
        model[1].bias[0] = torch.nan
    assert "1.weight and 1 more parameters" in told(model, torch.ones(1, 2))


def test_the_first_module_whose_output_is_not_finite_is_named_and_hooks_are_gone():
    model = nn.Sequential(nn.Identity(), Logarithm(), nn.Identity())
    assert told(model, torch.zeros(1)) == "the output of 1 (Logarithm) is not finite"
    assert not any(module._forward_hooks for module in model.modules())


def test_nothing_is_said_of_what_is_finite():
    assert told(nn.Identity(), torch.zeros(1)) == ""
