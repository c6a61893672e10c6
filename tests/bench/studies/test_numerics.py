"""Findings of numerics on mechanisms that are sound, that overflow, and that divide by zero."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from attentions import attention_class
from attentions.testing.forms import Form
from bench.core.cli.errors import ConfigError
from bench.studies import numerics as measure
from bench.studies.numerics import (
    LARGE,
    PLAIN,
    Findings,
    findings_of,
    lines_of,
    page_of,
    read_findings,
)


@pytest.fixture(autouse=True)
def _short_and_one_thread(monkeypatch, one_thread):
    monkeypatch.setattr(measure, "SEQ_LEN", 64)


def test_errors_grow_as_the_dtype_narrows():
    found = findings_of(Form(name="linear", causal=False))
    float32, bfloat16 = (found.errors[dtype][PLAIN] for dtype in ("float32", "bfloat16"))
    assert float32 < 1e-5 < bfloat16 < 0.1
    assert found.broken == {"float32": [], "bfloat16": [], "float16": []}
    assert found.failures == []


def test_an_error_is_a_share_of_the_largest_output():
    def error(out, expected):
        return measure._error(torch.tensor(out), torch.tensor(expected, dtype=torch.float64))

    assert error([4.5, -8.0], [4.0, -8.0]) == 0.0625
    assert error([0.5], [0.0]) == 0.5 and error([torch.inf], [1.0]) is None


class Scaled(torch.nn.Module):
    """Multiplies by a weight that bfloat16 rounds to 1."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor(1.001))

    def forward(self, x):
        return x.sqrt() * self.weight


def test_rounded_weights_and_inputs_are_no_error_and_a_gradient_that_is_not_finite_is():
    assert measure.error_in(torch.bfloat16, Scaled(), (torch.full((2,), 4.001),)) == 0.0
    steep, zero = Scaled(), torch.zeros(2)
    assert measure.is_finite(steep, (zero,), None)
    assert not measure.is_finite(steep, (zero,), [])  # the slope of a root at 0
    steep.weight.data.fill_(torch.inf)
    assert not measure.is_finite(steep, (torch.ones(2),), None)
    weight = torch.nn.Parameter(torch.zeros(()))
    for learned in ([], [weight]):
        is_finite = measure.is_finite(lambda x: x * weight.sqrt(), (torch.ones(2),), learned)
        assert is_finite == (not learned)


def test_a_mechanism_ends_at_the_last_doubling_that_is_finite(monkeypatch):
    core: Any = attention_class("linear")
    sound = core.forward

    def breaks(self, q, k, v, **masks):
        too_large = q.norm(dim=-1).amax() >= 700
        return sound(self, q, k, v, **masks) + torch.where(too_large, torch.nan, 0.0)

    monkeypatch.setattr(core, "forward", breaks)
    found = findings_of(Form(name="linear", causal=False))
    assert found.ends == {"float32": 512, "bfloat16": 512, "float16": 512}
    assert found.failures == [
        "linear, float32, norm 1000: not finite",
        "linear, bfloat16, norm 1000: not finite",
    ]


def test_the_authors_operators_are_measured_in_half_precision_and_are_no_failures():
    found = findings_of(Form(name="nala_published", causal=False))
    assert found.broken["float32"] == ["zero queries", "all queries zero", "all zero"]
    assert {"all keys zero", "norm 1e-06"} <= set(found.broken["float16"])
    assert found.failures == []


def finding(**changes):
    errors: dict[str, dict[str, float | None]] = {"float32": {PLAIN: 1e-7, LARGE: 2e-6}}
    sound = Findings(
        mechanism="nala", causal=False, is_published=False, tested_at="now", torch="2.9",
        errors=errors, broken={"float32": []}, ends={"float32": None},
    )  # fmt: skip
    return replace(sound, **changes)


def test_the_page_has_the_worst_form_and_what_is_not_finite():
    worse: Any = {"float32": {PLAIN: 3e-7, LARGE: 1e-6}}
    page = page_of([finding(), finding(causal=True, ends={"float32": 4096.0}, errors=worse)])
    assert "| nala | 3e-07 / 2e-06 | - | - | 4e+03 | - | - |" in page
    assert "none of 1 mechanism." in page and "published operators" not in page
    worse["float32"][LARGE] = None
    page = page_of([finding(broken={"float32": ["a zero key"]}), finding(errors=worse)])
    assert "- nala, float32, a zero key\n" in page and "| nala | 3e-07 / not finite |" in page


def test_the_page_sets_the_published_operators_beside_ours():
    broken = {"float32": ["a zero query"], "float16": ["a zero query", "all keys zero"]}
    theirs = finding(
        mechanism="nala_published", is_published=True, broken=broken, ends={"float32": 64.0}
    )
    page = page_of([finding(), theirs])
    told = "float32 and float16: a zero query; float16: all keys zero"
    assert f"| nala | all / 6e+01 | - / - | - / - | {told} |" in page and "nala_pub" not in page


def test_findings_are_read_as_they_were_written(tmp_path):
    found = [finding(states={"none": {"int8": {16: 0.5, 32: None}}}), finding(causal=True)]
    lines_of(tmp_path, "nala").write(found)
    assert read_findings(tmp_path) == found
    lines_of(tmp_path, "nala").path.write_text('{"mechanism": "nala"}\n')
    with pytest.raises(ConfigError, match=r"nala\.jsonl:1 is no Findings: causal is missing"):
        read_findings(tmp_path)
