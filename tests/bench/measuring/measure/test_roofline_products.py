import math
from unittest.mock import Mock

import pytest
import torch

from bench.measuring.device import device_named
from bench.measuring.measure import roofline
from bench.measuring.measure.roofline import MM, ONEDNN, SHAPES, product_makers

CPU = device_named("cpu")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_every_library_makes_a_product_of_the_shape_that_it_is_asked_for(dtype):
    for make in product_makers(CPU, dtype).values():
        out = make((4, 3, 5))()
        assert (out.shape, out.dtype) == ((4, 5), dtype)


def test_float32_is_tried_by_the_library_that_the_mechanisms_use_as_well():
    has_onednn = torch.backends.mkldnn.is_available()
    assert set(product_makers(CPU, torch.float32)) == {MM, *([ONEDNN] if has_onednn else [])}


@pytest.mark.parametrize(
    ("device", "dtype"), [(device_named("meta"), torch.float32), (CPU, torch.float64)]
)
def test_there_is_torch_mm_alone_where_onednn_has_no_product(device, dtype):
    assert set(product_makers(device, dtype)) == {MM}


def test_a_processor_that_lacks_a_dtype_in_onednn_is_measured_without_it(monkeypatch):
    monkeypatch.setattr(
        roofline,
        "_onednn",
        lambda dtype, shape: Mock(
            side_effect=RuntimeError("could not create a primitive descriptor")
        ),
    )
    assert set(product_makers(CPU, torch.float16)) == {MM}


def test_shapes_are_tried_once_and_cheap_ones_first_since_these_say_what_is_too_long():
    assert len(set(SHAPES)) == len(SHAPES)
    assert math.prod(SHAPES[0]) <= 2**24
    assert (512, 64, 266) in SHAPES, "Performer's projection"
