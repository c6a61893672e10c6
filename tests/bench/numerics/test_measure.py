"""What the numerics see, on mechanisms that are sound, that overflow, and that divide by zero."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch

from attentions import Geometry, attention_class, build_attention
from bench.app.files import write_whole
from bench.conformance.forms import Form, build, inputs
from bench.numerics import measure
from bench.numerics.cases import (
    HIDDEN,
    MAGNITUDES,
    PLAIN,
    hard_inputs,
    of_magnitude,
    of_norm,
    with_magnitude,
)
from bench.numerics.measure import findings_of, key_of, not_finite
from bench.numerics.official import PLACES, beside_theirs
from bench.numerics.page import page_of
from bench.numerics.store import file_of, read_findings, text_of


@pytest.fixture(autouse=True)
def _one_thread(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(measure, "LENGTHS", (64, 256))
    monkeypatch.setattr(measure, "NORM_LEN", 64)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def tensors(seq_len: int = 16) -> tuple[torch.Tensor, ...]:
    torch.manual_seed(0)
    return tuple(torch.randn(1, 1, seq_len, 8) for _ in range(3))


def test_rows_have_the_norm_that_is_asked_for_and_values_stay() -> None:
    q, k, v = tensors()
    scaled = of_norm((q, k, v), 50.0)
    for x in scaled[:2]:
        torch.testing.assert_close(x.norm(dim=-1), torch.full((1, 1, 16), 50.0))
    assert torch.equal(scaled[2], v)


def test_numbers_have_the_magnitude_that_is_asked_for_and_keep_their_sign() -> None:
    q, k, v = tensors()
    large = of_magnitude((q, k, v), 1e9)
    for x, before in zip(large[:2], (q, k), strict=True):
        assert torch.equal(x.abs(), torch.full_like(x, 1e9))
        assert torch.equal(x.sign(), before.sign())
    assert torch.equal(large[2], v)


def test_large_numbers_stand_where_the_case_says() -> None:
    q, k, v = tensors()
    cases = with_magnitude((q, k, v), 1e6)
    for name, given in cases.items():
        assert max(float(x.abs().max()) for x in given) == 1e6, name
    one_q, one_k, one_v = cases["one entry"]
    for x, before in ((one_q, q), (one_k, k)):
        assert int((x != before).sum()) == 1
        assert float(x[..., -1, 0]) == 1e6
    assert torch.equal(one_v, v)
    opposite = cases["two opposite entries"][0][..., -2:, 0].flatten()
    assert opposite.tolist() == [-1e6, 1e6]
    assert not cases["queries beside keys of zero"][1].any()
    assert not cases["keys beside queries of zero"][0].any()
    assert torch.equal(cases["values"][0], q)
    assert len(with_magnitude((q,), 1e6)) == 5  # a layer has neither queries, keys nor values


def test_hard_inputs_are_finite_in_the_dtype_that_they_are_for() -> None:
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        for case, given in hard_inputs(tensors(), dtype).items():
            assert all(x.to(dtype).isfinite().all() for x in given), case


def test_errors_grow_as_the_dtype_narrows_and_zeros_give_zeros() -> None:
    found = findings_of(Form(name="linear", causal=False), "hash")
    key = key_of(PLAIN, 64)
    float32, bfloat16 = (found.errors[dtype][key] for dtype in ("float32", "bfloat16"))
    assert float32 is not None
    assert bfloat16 is not None
    assert float32 < 1e-5 < bfloat16 < 0.1
    assert found.gives[HIDDEN] == "zeros"
    assert found.gives["all zero"] == "the mean of v"
    assert found.failures == []
    assert found.source == "hash"
    assert found.finite_to["float16"] == 6.5e4  # the next is no number of float16
    assert found.finite_to["float32"] == MAGNITUDES[-1]
    assert found.stopped_by == {}


@pytest.mark.parametrize("name", ["softmax", "softmax_explicit", "sliding_window", "block_sparse"])
@pytest.mark.parametrize("causal", [False, True])
def test_exact_attention_in_float16_is_finite_on_all_hard_inputs(name: str, causal: bool) -> None:
    found = findings_of(Form(name=name, causal=causal))
    assert found.broken["float16"] == {}
    assert found.finite_to == {
        "float32": MAGNITUDES[-1],
        "bfloat16": MAGNITUDES[-1],
        "float16": 6.5e4,
    }
    assert found.stopped_by == {}


def test_magnitudes_end_before_the_first_that_breaks(monkeypatch: pytest.MonkeyPatch) -> None:
    core: Any = attention_class("linear")
    sound = core.forward

    def breaks(self: Any, q: Any, k: Any, v: Any, **masks: Any) -> Any:
        return sound(self, q, k, v, **masks) + torch.where(q.abs().amax() >= 9e3, torch.nan, 0.0)

    monkeypatch.setattr(core, "forward", breaks)
    found = findings_of(Form(name="linear", causal=False))
    assert found.finite_to == {"float32": 1e3, "bfloat16": 1e3, "float16": 1e3}
    assert set(found.stopped_by.values()) == {"all numbers, plus or minus"}
    assert "linear, float32, all numbers, plus or minus: not finite beyond 1000" in found.failures


def test_elsewhere_operators_are_left_to_themselves_as_in_compiled_graphs() -> None:
    form = Form(name="linear", causal=False)
    found = findings_of(form)
    reached = found.finite_to_elsewhere["float32"]
    assert reached < found.finite_to["float32"]
    beyond = MAGNITUDES[MAGNITUDES.index(reached) + 1]
    core = build(form, num_heads=1, seq_len=64, head_dim=32, value_dim=32)
    compiled = torch.compile(core, backend="eager", fullgraph=True)

    def breaks(magnitude: float) -> bool:
        cases = with_magnitude(inputs(core, batch_size=1), magnitude)
        return any(not_finite(compiled, given, {})[0] for given in cases.values())

    assert not breaks(reached)
    assert breaks(beyond)


def test_lengths_that_take_too_much_are_left_out_and_said_to_be(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(measure, "MAX_FLOPS", 4 * 200**2 * measure.HEAD_DIM)
    found = findings_of(Form(name="softmax", causal=False))
    assert found.left_out == [256]
    assert key_of(PLAIN, 256) not in found.errors["float32"]


def test_what_is_not_finite_is_told_apart_from_what_has_no_number() -> None:
    core: Any = build_attention("softmax", Geometry(num_heads=1, head_dim=8, seq_len=16)).half()
    q, k, v = (x.half() for x in tensors())
    assert not_finite(core, (q, k, v), {})[0] == ""

    class Divides(torch.nn.Module):
        capabilities = core.capabilities

        def forward(self, q: Any, k: Any, v: Any) -> Any:
            norm = q.norm(dim=-1, keepdim=True)
            return v * (norm / norm) + 0 * k

    class Overflows(Divides):
        def forward(self, q: Any, k: Any, v: Any) -> Any:
            return v * 300 * 300 / 300 / 300 + 0 * q * k

    class TooLarge(Divides):
        def forward(self, q: Any, k: Any, v: Any) -> Any:
            return v * 300 * 300 + 0 * q * k

    assert not_finite(Divides(), (torch.zeros_like(q), k, v), {})[0] == "output and gradient"
    assert "output" in not_finite(Overflows(), (q, k, v.sign()), {})[0]
    assert not_finite(TooLarge(), (q, k, v.sign()), {})[0] == ""  # 90,000 is no float16


@pytest.mark.parametrize("place", PLACES, ids=lambda p: f"{p.mechanism}-{p.case}-{p.dtype}")
def test_where_the_authors_operators_give_nan_ours_do_not(place: Any) -> None:
    beside = beside_theirs(place)
    assert beside.theirs
    assert beside.ours == ""


def test_the_page_is_made_of_what_is_stored(tmp_path: Any) -> None:
    found = findings_of(Form(name="uniform", causal=False))
    write_whole(file_of(tmp_path, "uniform"), text_of([found]))
    page = page_of(read_findings(tmp_path))
    assert "| uniform |" in page
    assert "finite in all cases, of all 1 forms" in page
    assert "| 1e+30 | 1e+30 | 65000 | uniform |" in page
    assert "Nothing: 0 of 1 forms." in page
    found.broken["float16"] = {"all keys zero": "gradient"}
    found.stopped_by["bfloat16"] = "one entry"
    write_whole(file_of(tmp_path, "uniform"), text_of([found]))
    page = page_of(read_findings(tmp_path))
    assert "| uniform | float16 | all keys zero | gradient |" in page
    assert "| uniform | 3.3e+38 | 3.3e+38 | 65000 | one entry |" in page
