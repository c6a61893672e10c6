import pytest

from attentions import attention_names
from bench.costs.growth import costs


@pytest.mark.parametrize(
    ("name", "flops", "memory", "decoding"),
    [
        ("softmax_explicit", "N^2", "N^2", "N"),
        ("linear_unnormalised", "N", "N", "1"),
        ("none", "0", "N", None),  # its output
    ],
)
def test_growth_is_that_of_the_formulas(name, flops, memory, decoding):
    cost = costs(name)
    assert (cost.flops_growth, cost.memory_growth, cost.decode_growth) == (flops, memory, decoding)


def test_flops_are_those_of_one_call_at_the_stated_shape():
    # 2 products of N x N x D for 8 heads, 2 FLOPs per multiply-add.
    assert costs("softmax").flops == 8 * 2 * 2 * 4096 * 4096 * 64


@pytest.mark.slow
@pytest.mark.parametrize("name", attention_names())
def test_every_mechanism_has_costs(name):
    assert costs(name).flops >= 0
