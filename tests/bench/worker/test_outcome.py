import pytest
import torch

from bench.worker.outcome import failed, first_line, is_out_of_memory, ok


def test_an_outcome_has_values_or_a_reason():
    assert ok(a=1) == {"status": "ok", "reason": None, "detail": None, "values": {"a": 1}}
    assert failed("error", "why")["values"] == {}


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (MemoryError(), True),
        (torch.OutOfMemoryError("CUDA out of memory"), True),
        (RuntimeError("[enforce fail] std::bad_alloc"), True),
        (RuntimeError("out of range"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_a_lack_of_memory_is_told_from_other_errors(error, expected):
    assert is_out_of_memory(error) is expected


def test_a_reason_is_one_line_of_bearable_length():
    assert first_line(ValueError("\n  one\ntwo")) == "one"
    assert len(first_line(ValueError("x" * 1000))) == 300
    assert first_line(KeyError()) == "KeyError"
