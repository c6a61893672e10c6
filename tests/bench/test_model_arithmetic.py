from dataclasses import replace

import pytest

from attentions.models._swap import Swap
from attentions.models.counting import count_model
from attentions.models.nalaformer import SIZES, NalaFormer
from bench.model_arithmetic import Variant, count_variant


def counted(sizes, *, linear_stages=(1, 2), image_size=224, num_classes=1000):
    swap = Swap(model="counted", mechanism="nala_layer", stages=linear_stages)
    return count_model(lambda: NalaFormer(sizes, swap, image_size, num_classes), image_size)


@pytest.mark.parametrize("size", SIZES)
def test_the_released_sizes_are_those_of_the_models_that_are_built(size):
    assert count_variant(Variant(sizes=SIZES[size])) == counted(SIZES[size])


@pytest.mark.parametrize(
    "change",
    [
        {"widths": (32, 96, 128, 384), "heads": (1, 3, 4, 12)},
        {"depths": (1, 2, 9, 3)},
        {"mlp_ratio": 4.5},
    ],
)
def test_a_size_that_nobody_released_is_what_building_it_gives(change):
    sizes = replace(SIZES["xt"], **change)
    assert count_variant(Variant(sizes=sizes)) == counted(sizes)


def test_softmax_in_other_stages_and_other_images_are_what_building_them_gives():
    stages, sizes = (2, 4), SIZES["xt"]
    variant = Variant(sizes=sizes, linear_stages=stages, image_size=96)
    assert count_variant(variant, num_classes=10) == counted(
        sizes, linear_stages=stages, image_size=96, num_classes=10
    )


def test_a_wider_head_costs_its_linears_and_norm():
    narrow, wide = (count_variant(Variant(sizes=SIZES["xt"], head_width=w)) for w in (1024, 2048))
    channels, tokens, more = SIZES["xt"].widths[-1], 7 * 7, 1024
    assert wide.parameters - narrow.parameters == more * (channels + 1 + 2 + 1000)
    assert wide.multiply_adds - narrow.multiply_adds == more * (channels * tokens + 1000)
    assert wide.norm_operations - narrow.norm_operations == 2 * more * tokens
