import pytest
import torch

from bench.measuring.device import device_named
from bench.measuring.measure.roofline import MM, ONEDNN, product_makers

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
