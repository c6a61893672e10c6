"""The authors' operators, as written here, against the authors' numbers and against ours."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from attentions import Geometry, attention_class, build_attention
from attentions.base import CallShape
from bench.golden.files import GoldenFolder
from bench.golden.map import form_of
from bench.golden.proof import Verdict, prove

PUBLIC = GoldenFolder(Path(__file__).parents[1] / "golden")
NAMES = (
    "cosformer",
    "efficient",
    "flatten",
    "linear",
    "nala",
    "nala_cosine",
    "performer",
    "polaformer",
)
LAYERS = ("efficient_layer", "flatten_layer", "nala_layer", "polaformer_layer")


def golden_cases():
    """Those of mechanisms that have official operators, but for what these cannot do."""
    for name in PUBLIC.names:
        header = PUBLIC.header(name)
        form = form_of(header)
        if form.mechanism not in (*NAMES, *LAYERS) or form.reason is not None:
            continue
        masked = {"w.mask", "w.key_mask"} & header.shapes.keys()
        # A direction of zero is 0 / 0 there, and NaN; ours is compared where theirs is finite.
        if not masked and "causal" not in header.tags and not any_nan(header):
            yield pytest.param(header, form, id=name)


def any_nan(header):
    golden = PUBLIC.read(header)
    return not all(golden.tensors[result].isfinite().all() for result in header.results)


@pytest.mark.parametrize("implementation", ["official", "plain"])
@pytest.mark.parametrize(("header", "form"), list(golden_cases()))
def test_each_form_gives_the_authors_numbers(header, form, implementation):
    chosen = replace(form, defaults={**form.defaults, "implementation": implementation})
    proof = prove(PUBLIC.read(header), chosen)
    assert proof.status is Verdict.PASSED, proof.reason


def build(name, **settings):
    geometry = Geometry(num_heads=2, head_dim=8, seq_len=12)
    torch.manual_seed(1)
    core = build_attention(name, geometry, **settings)
    for parameter in core.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return core.double()


@pytest.mark.parametrize("name", [*NAMES, "nala with rope", "performer with relu"])
def test_the_three_forms_are_one_function(name):
    name, _, extra = name.partition(" with ")
    settings = {"rope": {"rope": True}, "relu": {"kernel": "relu"}}.get(extra, {})
    q, k, v = torch.randn(3, 2, 2, 12, 8, dtype=torch.float64).unbind()
    results = []
    for implementation in ("auto", "plain", "official"):
        core = build(name, implementation=implementation, **settings)
        inputs = [x.clone().requires_grad_() for x in (q, k, v)]
        out = core(*inputs)
        leaves = [*inputs, *core.parameters()]
        results.append([out, *torch.autograd.grad(out.square().sum(), leaves)])
    for plain, ours in zip(results[1], results[0], strict=True):
        torch.testing.assert_close(ours, plain)
    for plain, official in zip(results[1], results[2], strict=True):
        torch.testing.assert_close(official, plain)


@pytest.mark.parametrize("name", NAMES)
def test_the_official_operators_execute_what_the_formula_says(name):
    shape = CallShape(batch_size=2, num_heads=2, query_len=12, key_len=12, head_dim=8, value_dim=8)
    core = build(name, implementation="official")
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        core(*torch.randn(3, 2, 2, 12, 8, dtype=torch.float64).unbind())
    assert core.flops(shape) <= counter.get_total_flops() <= 1.1 * core.flops(shape)


@pytest.mark.parametrize("name", NAMES)
def test_official_operators_take_no_mask_and_say_so(name):
    if not attention_class(name).capabilities.masks:
        pytest.skip("takes no mask at all")
    core = build(name, implementation="official")
    q, k, v = torch.randn(3, 2, 2, 12, 8, dtype=torch.float64).unbind()
    with pytest.raises(ValueError, match=f"{name}: a key_mask was given; .* None is needed"):
        core(q, k, v, key_mask=torch.ones(2, 12, dtype=torch.bool))


@pytest.mark.parametrize("name", ["linear", "performer", "cosformer"])
def test_a_causal_form_that_the_authors_do_not_have_is_refused(name):
    geometry = Geometry(num_heads=2, head_dim=8, seq_len=12, causal=True)
    with pytest.raises(ValueError, match=f"{name}: implementation is 'official'"):
        build_attention(name, geometry, implementation="official")


@pytest.mark.parametrize("name", [*NAMES, *LAYERS])
def test_an_implementation_that_does_not_exist_is_refused_by_name(name):
    with pytest.raises(ValueError, match="implementation is 'fast'; 'auto' or 'plain' or"):
        build(name, implementation="fast")


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("nala", {"key_power": 2.0}),
        ("flatten", {"norm_over": "head"}),
        ("cosformer", {"horizon": 40}),
    ],
)
def test_what_the_authors_code_has_not_is_refused_with_its_operators(name, settings):
    with pytest.raises(ValueError, match="implementation"):
        build(name, implementation="official", **settings)


def test_operators_written_for_tokens_first_ask_for_such_strides():
    for name in ("linear", "flatten", "polaformer", "cosformer"):
        assert build(name, implementation="official").capabilities.memory_layout == "bnhd"
        assert build(name).capabilities.memory_layout == "bhnd"
