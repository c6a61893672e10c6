"""Published code's operators, as written here, against its numbers and against our form."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from attentions import Geometry, build_attention, build_layer
from attentions.base import CallShape
from bench.golden.files import GoldenFolder, Header
from bench.golden.map import Form, form_of
from bench.golden.proof import Verdict, prove

PUBLIC = GoldenFolder(Path(__file__).parents[1] / "golden")
CORES: dict[str, dict[str, Any]] = {
    "agent": {"num_agents": 4},
    "inline": {},
    "linformer": {"projected_len": 5},
    "nystromformer": {"num_landmarks": 4, "conv_kernel_size": 3},
}
LAYERS: dict[str, dict[str, Any]] = {
    "agent_layer": {"num_agents": 4, "class_token": True},
    "inline_layer": {},
    "linformer_layer": {"projected_len": 5, "share_kv": True},
    "mlla": {},
    "polaformer_pp": {},
}
SHAPE = {"num_heads": 2, "head_dim": 8}


def golden_cases() -> Iterator[Any]:
    for name in PUBLIC.names:
        header = PUBLIC.header(name)
        form = form_of(header)
        if form.mechanism in CORES.keys() | LAYERS.keys() and form.reason is None:
            masked = {"w.mask", "w.key_mask"} & header.shapes.keys()
            if not masked:
                yield pytest.param(header, form, id=name)


def test_every_core_with_official_operators_has_goldens_of_itself_or_of_its_layer() -> None:
    proven = {case.values[1].mechanism for case in golden_cases()}
    for name in CORES:
        assert {name, f"{name}_layer"} & proven
    assert {"mlla", "polaformer_pp"} <= proven


@pytest.mark.parametrize("implementation", ["official", "auto"])
@pytest.mark.parametrize(("header", "form"), list(golden_cases()))
def test_each_form_gives_the_published_numbers(
    header: Header, form: Form, implementation: str
) -> None:
    chosen = replace(form, defaults={**form.defaults, "implementation": implementation})
    proof = prove(PUBLIC.read(header), chosen)
    assert proof.status is Verdict.PASSED, proof.reason


def build(name: str, implementation: str, **settings: Any) -> Any:
    settings = CORES.get(name, LAYERS.get(name, {})) | settings
    # A class token stands before its square of tokens.
    geometry = Geometry(**SHAPE, seq_len=17 if settings.get("class_token") else 16)
    torch.manual_seed(1)
    make = build_attention if name in CORES else build_layer
    module = make(name, geometry, implementation=implementation, **settings)
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return module.double()


def inputs(name: str, module: Any) -> list[Tensor]:
    generator = torch.Generator().manual_seed(2)
    if name in CORES:
        drawn = torch.randn(3, 2, 2, 16, 8, dtype=torch.float64, generator=generator)
        return list(drawn.unbind())
    length = module.geometry.seq_len
    return [torch.randn(2, length, 16, dtype=torch.float64, generator=generator)]


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        *((name, {}) for name in (*CORES, *LAYERS)),
        ("agent", {"bias": False}),
        ("linformer", {"share_kv": True}),
        ("nystromformer", {"pinv_init": "batch"}),
    ],
)
def test_both_forms_are_one_function(name: str, settings: dict[str, Any]) -> None:
    results = []
    for implementation in ("auto", "official"):
        module = build(name, implementation, **settings)
        given = [x.requires_grad_() for x in inputs(name, module)]
        out = module(*given)
        leaves = [*given, *module.parameters()]
        results.append([out, *torch.autograd.grad(out.square().sum(), leaves)])
    for ours, official in zip(*results, strict=True):
        torch.testing.assert_close(official, ours)


@pytest.mark.parametrize("name", [*CORES, *LAYERS])
def test_the_official_operators_are_not_ours(name: str) -> None:
    """Else the switch would measure nothing."""
    seen = []
    for implementation in ("auto", "official"):
        module = build(name, implementation)
        with torch.profiler.profile() as profiler, torch.no_grad():
            module(*inputs(name, module))
        seen.append([event.name for event in profiler.events() or ()])
    assert seen[0] != seen[1]


@pytest.mark.parametrize("name", CORES)
def test_the_official_operators_execute_what_the_formula_says(name: str) -> None:
    shape = CallShape(batch_size=2, query_len=16, key_len=16, value_dim=8, causal=False, **SHAPE)
    settings = {"conv_kernel_size": None} if name == "nystromformer" else {}
    module = build(name, "official", **settings)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        module(*inputs(name, module))
    assert module.flops(shape) <= counter.get_total_flops() <= 1.2 * module.flops(shape)


@pytest.mark.parametrize("name", [*CORES, *LAYERS])
def test_a_form_that_does_not_exist_is_refused_by_name(name: str) -> None:
    with pytest.raises(ValueError, match=r"implementation is 'fast'; 'auto' or .*'official'"):
        build(name, "fast")


def test_official_inline_takes_no_mask_and_says_so() -> None:
    module = build("inline", "official")
    mask = torch.ones(2, 16, dtype=torch.bool)
    with pytest.raises(ValueError, match=r"inline: a key_mask was given; .* None is needed"):
        module(*inputs("inline", module), key_mask=mask)


@pytest.mark.parametrize("num_landmarks", [5, 16])
def test_official_landmarks_must_divide_the_tokens(num_landmarks: int) -> None:
    module = build("nystromformer", "official", num_landmarks=num_landmarks)
    with pytest.raises(ValueError, match=rf"num_landmarks={num_landmarks} were given; .* multiple"):
        module(*inputs("nystromformer", module))


def test_operators_written_for_tokens_first_ask_for_such_strides() -> None:
    assert build("agent", "official").capabilities.memory_layout == "bnhd"
    assert build("agent", "auto").capabilities.memory_layout == "bhnd"
    for implementation in ("auto", "official"):
        assert build("linformer", implementation).capabilities.memory_layout == "bnhd"
