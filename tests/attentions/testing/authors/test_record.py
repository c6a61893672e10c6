"""Goldens of small functions and modules, recorded and then proven, or not; and the page on it."""

import copy
import json
import math
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from attentions import Geometry, build_attention
from attentions.testing.authors.files import GoldenFolder
from attentions.testing.authors.map import form_of
from attentions.testing.authors.proof import ProofStatus, prove
from attentions.testing.authors.record import CannotRecord, Case, record
from attentions.testing.record import main
from tests.pages import typed

torch.set_num_threads(1)


def seeded(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def linear_by_pairs(q, k, v, eps=1e-3):
    phi_q, phi_k = (nn.functional.elu(x) + 1 for x in (q, k))
    weights = phi_q @ phi_k.transpose(-2, -1)
    return weights @ v / (weights.sum(-1, keepdim=True) + eps)


def linear_case(**changes):
    q, k, v = seeded(3, 2, 2, 13, 4)
    case = Case(
        mechanism="linear",
        case="full",
        call=linear_by_pairs,
        inputs={"q": q, "k": k, "v": v},
        settings={"eps": 1e-3},
    )
    return replace(case, **changes)


class Named(nn.Module):
    """A module whose input is called x."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, x):
        return self.inner(x)


def module_case():
    layer = build_attention("linformer_layer", Geometry(num_heads=2, head_dim=4, seq_len=9))
    return Case(
        mechanism="linformer_layer",
        case="whole",
        call=layer,
        inputs={"x": seeded(2, 9, 8)},
        hyper={"num_heads": 2},
    )


def proof_of(case, folder):
    if not (folder / f"{case.name}.json").exists():
        record(case, folder)
    goldens = GoldenFolder(folder)
    header = goldens.header(case.name)
    return prove(goldens.read(header), form_of(header))


@pytest.mark.parametrize("case", [linear_case(), module_case()], ids=["function", "module"])
def test_what_was_recorded_is_proven(case, tmp_path):
    proof = proof_of(case, tmp_path)
    assert (proof.status, proof.reason) == (ProofStatus.PASSED, None)
    assert proof.mechanism == case.mechanism


def test_a_file_holds_float32_values_and_what_float64_makes_of_them(tmp_path):
    def call(q, k, v):
        out = -linear_by_pairs(q, k, v).exp()
        return out - 1e-2 if out.dtype == torch.float32 else out

    wide = {key: x.double() + 1e-9 for key, x in linear_case().inputs.items()}
    path = record(linear_case(call=call, inputs=wide, seed=3), tmp_path)
    said, tensors = json.loads(path.read_bytes()), load_file(path.with_suffix(".safetensors"))
    exact = call(**{key: wide[key].float().double() for key in wide})
    assert torch.equal(tensors["out"], exact) and torch.equal(tensors["in.q"], wide["q"].float())
    assert torch.equal(tensors["cot"], seeded(*exact.shape, seed=3))
    own = said["official_float32_vs_float64"]["out"]
    assert own["max_abs"] == pytest.approx(1e-2, rel=1e-3)
    assert said["bounds"]["float32"]["out"] == pytest.approx(1e-1, rel=1e-3)
    assert own["scale"] == float(exact.abs().max()) == said["bounds"]["float64"]["out"] / 1e-9
    assert said["nonfinite_in_file"] == {}


def test_a_module_is_recorded_in_evaluation_and_left_as_it_was(tmp_path):
    module = nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5)).double()
    case = linear_case(call=Named(module), inputs={"x": seeded(3, 4)})
    path = record(case, tmp_path)
    tensors = load_file(path.with_suffix(".safetensors"))
    with torch.no_grad():
        exact = copy.deepcopy(module).float().double()[0](seeded(3, 4).double())
    assert torch.equal(tensors["out"], exact)
    assert module.training and module[0].weight.dtype == torch.float64


def test_a_mask_is_stored_and_told_to_ours(tmp_path):
    keep = torch.tensor([[True] * 9 + [False] * 4, [True] * 13])

    def masked(q, k, v):
        phi_q, phi_k = (nn.functional.elu(x) + 1 for x in (q, k))
        weights = phi_q @ phi_k.transpose(-2, -1) * keep[:, None, None]
        return weights @ v / (weights.sum(-1, keepdim=True) + 1e-3)

    case = linear_case(call=masked, stored={"key_mask": keep})
    assert proof_of(case, tmp_path).status is ProofStatus.PASSED


def test_rows_that_are_not_finite_are_recorded_as_such(tmp_path):
    def broken(q, k, v):
        out = linear_by_pairs(q, k, v)
        return torch.cat([out[..., :1, :] * torch.nan, out[..., 1:, :]], dim=-2)

    case = linear_case(call=broken)
    said = json.loads(record(case, tmp_path).read_bytes())
    assert said["nonfinite_in_file"]["out"] == 2 * 2 * 4


def test_a_case_that_is_there_is_not_replaced(tmp_path):
    before = record(linear_case(), tmp_path).read_bytes()
    with pytest.raises(CannotRecord, match="is there already"):
        record(linear_case(seed=3), tmp_path)
    assert (tmp_path / "linear" / "full.json").read_bytes() == before


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"inputs": {}}, "has no inputs"),
        ({"call": lambda q, k, v: (q, k)}, "its call returns tuple"),
        ({"call": lambda q, k, v: (q + v).float()}, "returns torch.float32 for inputs of"),
        ({"call": lambda q, k, v: v.detach()}, "depends on no input"),
        ({"settings": {"eps": math.nan}}, "settings or hyper cannot be JSON"),
        ({"hyper": {"dtype": torch.float32}}, "settings or hyper cannot be JSON"),
    ],
)
def test_what_cannot_be_recorded_is_bad_input(changes, said, tmp_path):
    with pytest.raises(CannotRecord, match=said):
        record(linear_case(**changes), tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_the_page_on_proving_does_what_it_says(tmp_path):
    typed("proving-a-mechanism.md", tmp_path)
    rows = json.loads((tmp_path / "verify.json").read_bytes())
    assert {(row["golden"], row["mechanism"]): row["status"] for row in rows} == {
        (f"linear/{case}", name): "passed"
        for case in ("full_h1n60", "full_h2n49")
        for name in ("linear", "linear_published")
    }


@pytest.mark.parametrize("words", [[], ["cases.py"], ["none.py", "golden=x"], ["a", "b", "c=d"]])
def test_the_command_refuses_what_it_cannot_read(words, tmp_path, monkeypatch, exits):
    monkeypatch.chdir(tmp_path)
    assert exits(2, main(words)).startswith("CannotRecord: ")
    assert list(tmp_path.iterdir()) == []
