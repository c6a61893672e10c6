"""Which dtypes a device computes in, and which of torch's kernels for attention."""

import itertools

import pytest
import torch

from bench.measuring.device import Device, base, device_named
from bench.measuring.device.base import allow_sdpa, allowed_sdpa, sdpa_kernel


class Probe(Device):
    """A device that lacks some dtypes, and notes which it is asked to try."""

    errors = {}  # noqa: RUF012
    asked = []  # noqa: RUF012

    def try_out(self, dtype):
        self.asked.append(dtype)
        if dtype in self.errors:
            raise self.errors[dtype]


@pytest.fixture
def probe(monkeypatch):
    """`probe(dtype=error)`; answers are kept for the life of a process."""
    base._problem.cache_clear()

    def make(**errors):
        monkeypatch.setattr(Probe, "errors", errors)
        monkeypatch.setattr(Probe, "asked", [])
        return Probe("probe")

    return make


def test_a_missing_kernel_is_named_with_the_device_the_dtype_and_what_is_allowed(probe):
    device = probe(float16=RuntimeError("\"addmm_impl_cpu_\" not implemented for 'Half'"))
    reason = device.why_no_dtype("float16")
    assert reason.startswith("probe does not compute in float16: ")
    assert "addmm_impl_cpu_" in reason
    assert reason.endswith("It computes in float32, bfloat16, float64.")


def test_a_device_without_wide_floats_is_understood_too(probe):
    error = TypeError("Cannot convert a MPS Tensor to float64 dtype.\nUse float32 instead.")
    reason = probe(float64=error).why_no_dtype("float64")
    assert "float64 dtype'. It computes in float32, bfloat16, float16." in reason


def test_a_pair_is_tried_once_and_float32_never(probe):
    device = probe()
    for _ in range(3):
        assert device.why_no_dtype("bfloat16") is None
        assert Probe("probe").why_no_dtype("float32") is None
    assert device.asked == ["bfloat16"]


def test_a_device_that_is_full_is_not_said_to_lack_a_dtype(probe):
    assert probe(bfloat16=torch.OutOfMemoryError("full")).why_no_dtype("bfloat16") is None


def test_trying_out_fails_where_torch_has_no_kernel():
    device_named("cpu").try_out("float64")
    with pytest.raises(RuntimeError, match="not implemented"):
        device_named("cpu").try_out("int8")


def test_kernels_that_sdpa_may_take_are_allowed_one_by_one():
    before = allowed_sdpa()
    try:
        for wanted in itertools.product((True, False), repeat=3):
            allow_sdpa(wanted)
            assert allowed_sdpa() == wanted
    finally:
        allow_sdpa(before)


def test_the_kernel_that_sdpa_took_is_known_by_its_operator():
    fused = "aten::_scaled_dot_product_flash_attention_for_cpu"
    assert sdpa_kernel([fused, "aten::mm", fused]) == "flash"
    assert sdpa_kernel(["aten::_scaled_dot_product_attention_math", fused]) == "flash, math"
    assert sdpa_kernel(["aten::scaled_dot_product_attention", "aten::bmm"]) is None
