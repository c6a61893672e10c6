"""Which dtypes a device computes in."""

import pytest
import torch

from bench.measuring.measure import dtypes
from bench.measuring.measure.dtypes import try_out, why_no_dtype


@pytest.fixture(autouse=True)
def _forget():
    """Answers are kept for the life of a process."""

    def forget() -> None:
        why_no_dtype.cache_clear()
        dtypes._problem.cache_clear()

    forget()
    yield
    forget()


class Probe:
    """Stands for a device that lacks some dtypes, and counts how often it is asked."""

    def __init__(self, **errors):
        self.errors = errors
        self.asked = []

    def __call__(self, device, dtype):
        self.asked.append((device, dtype))
        if dtype in self.errors:
            raise self.errors[dtype]


def probe(monkeypatch, **errors):
    fake = Probe(**errors)
    monkeypatch.setattr(dtypes, "try_out", fake)
    return fake


def test_a_missing_kernel_is_named_with_the_device_the_dtype_and_what_is_allowed(monkeypatch):
    probe(monkeypatch, float16=RuntimeError("\"addmm_impl_cpu_\" not implemented for 'Half'"))
    reason = why_no_dtype("cpu", "float16")
    assert reason.startswith("cpu does not compute in float16: ")
    assert "addmm_impl_cpu_" in reason
    assert reason.endswith("It computes in float32, bfloat16, float64.")


def test_a_device_without_wide_floats_is_understood_too(monkeypatch):
    error = TypeError("Cannot convert a MPS Tensor to float64 dtype.\nUse float32 instead.")
    probe(monkeypatch, float64=error)
    assert "float64 dtype'. It computes in float32, bfloat16, float16." in why_no_dtype(
        "mps", "float64"
    )


def test_what_a_device_can_do_gives_no_reason(monkeypatch):
    probe(monkeypatch)
    assert why_no_dtype("cpu", "bfloat16") is None


def test_a_pair_is_tried_once_and_float32_never(monkeypatch):
    fake = probe(monkeypatch)
    for _ in range(3):
        why_no_dtype("cpu", "bfloat16")
        why_no_dtype("cpu", "float32")
    assert fake.asked == [("cpu", "bfloat16")]


def test_a_device_that_is_full_is_not_said_to_lack_a_dtype(monkeypatch):
    probe(monkeypatch, bfloat16=torch.OutOfMemoryError("full"))
    assert why_no_dtype("cpu", "bfloat16") is None


@pytest.mark.parametrize(("capability", "is_able"), [((7, 5), False), ((8, 0), True)])
def test_bfloat16_that_a_card_would_only_imitate_is_refused(monkeypatch, capability, is_able):
    fake = probe(monkeypatch)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    reason = why_no_dtype("cuda:0", "bfloat16")
    if is_able:
        assert reason is None and fake.asked == [("cuda:0", "bfloat16")]
        return
    assert "cuda:0 does not compute in bfloat16" in reason
    assert "compute capability is 7.5, and 8.0 is needed" in reason
    assert "It computes in float32, float16, float64." in reason


def test_trying_out_fails_where_torch_has_no_kernel():
    try_out("cpu", "float64")
    with pytest.raises(RuntimeError, match="not implemented"):
        try_out("cpu", "int8")
