"""Test vectors: two sources agree, and each case refutes the wrong formulas that it names."""

import inspect
import json
import os
import re
import subprocess
import sys
from collections import Counter
from functools import cache
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from attentions.testing.authors.cases import PACKAGED
from attentions.testing.vectors import formulas, make

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "vectors.md").read_text()
FAMILIES = {family["family"]: family for family in make.families()}
CASES = [(name, case) for name, family in FAMILIES.items() for case in family["cases"]]


@cache
def stored(family):
    return load_file(make.FOLDER / f"{family}.safetensors")


def tensors(family, case, kind):
    """Inputs, as float64, or results of a case."""
    named = {n.removeprefix(f"{case}/"): x for n, x in stored(family).items()}
    own = {n: x for n, x in named.items() if "/" not in n}
    if kind == "results":
        return {n: x for n, x in own.items() if not n.startswith("in.")}
    return {n[3:]: x.astype(np.float64) for n, x in own.items() if n.startswith("in.")}


def error(got, want):
    """The largest error of any result, relative to its largest entry; infinity for NaN."""
    worst = 0.0
    for name, exact in want.items():
        if got[name].shape != exact.shape:
            return np.inf
        off = np.abs(got[name] - exact).max() / np.abs(exact).max()
        worst = max(worst, off if np.isfinite(off) else np.inf)
    return worst


def mutated(wrong):
    """The module of formulas with a wrong one."""
    whole, part = inspect.getsource(formulas), inspect.getsource(getattr(formulas, wrong["in"]))
    assert wrong["replace"] in part
    module = {"__name__": "wrong"}
    exec(whole.replace(part, part.replace(wrong["replace"], wrong["by"])), module)
    return module


@cache
def replays(family):
    return {name: mutated(wrong)["replay"] for name, wrong in FAMILIES[family]["wrong"].items()}


def caught(family, name):
    """The wrong formulas whose results are off by more than float32 may be."""
    case, x = FAMILIES[family]["cases"][name], tensors(family, name, "inputs")
    want, found = tensors(family, name, "results"), []
    with np.errstate(all="ignore"):
        for wrong, replay in replays(family).items():
            try:
                off = error(replay(case, x), want)
            except (ValueError, IndexError):  # shapes that do not fit
                off = np.inf
            if off > FAMILIES[family]["tolerances"]["float32"]:
                found.append(wrong)
    return found


def test_headers_keep_to_their_schemas():
    jsonschema = pytest.importorskip("jsonschema")
    for folder, files in ((make.FOLDER, "*.json"), (PACKAGED, "*/*.json")):
        schema = json.loads((folder / "schema.json").read_text())
        jsonschema.Draft202012Validator.check_schema(schema)
        check = jsonschema.Draft202012Validator(schema)
        headers = {*folder.glob(files)} - {folder / "schema.json"}
        assert headers
        for file in headers:
            check.validate(json.loads(file.read_text()))


@pytest.mark.parametrize(("family", "case"), CASES)
def test_the_explicit_formula_gives_the_stored_results(family, case):
    """The numbers are of our mechanisms, token by token; the formula knows nothing of them."""
    got = formulas.replay(FAMILIES[family]["cases"][case], tensors(family, case, "inputs"))
    assert error(got, tensors(family, case, "results")) <= FAMILIES[family]["tolerances"]["float64"]


@pytest.mark.parametrize("family", FAMILIES)
def test_the_explicit_formula_gives_what_the_authors_code_gave(family):
    for source in FAMILIES[family]["sources"]["authors"]:
        golden = load_file(PACKAGED / f"{source['golden']}.safetensors")
        kept = {
            n.partition(".")[2]: x for n, x in golden.items() if n[:3] == "in." or n[:2] == "w."
        }
        x = {{"g": "log_decay"}.get(n, n): y.astype(np.float64) for n, y in kept.items()}
        if "index_k" in x:
            x["index_k"] = x["index_k"][:, None]
        out, _ = formulas.FORMULAS[source["formula"]](x, {}, **source["settings"])
        assert error({"out": out}, {"out": golden["out"]}) <= 1e-9, source


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize(("family", "case"), CASES)
def test_a_mechanism_serves_the_parts_of_a_trace_whole(family, case, dtype):
    x = {n: torch.from_numpy(y).float() for n, y in tensors(family, case, "inputs").items()}
    got = make.results(FAMILIES[family]["cases"][case], x, dtype, by_token=False)
    off = error({n: y.double().numpy() for n, y in got.items()}, tensors(family, case, "results"))
    assert off <= FAMILIES[family]["tolerances"][str(dtype).removeprefix("torch.")]


@pytest.mark.parametrize(("family", "case"), CASES)
def test_a_case_refutes_the_wrong_formulas_that_it_names(family, case):
    named = FAMILIES[family]["cases"][case]["catches"]
    assert named and {*caught(family, case)} == {*named}


@pytest.mark.parametrize("family", FAMILIES)
def test_each_wrong_formula_is_refuted(family):
    lists = [case["catches"] for case in FAMILIES[family]["cases"].values()]
    times = Counter(name for names in lists for name in names)
    assert times.keys() == FAMILIES[family]["wrong"].keys()
    assert all(names == sorted(names, key=lambda name: (times[name], name)) for names in lists)


def test_inputs_are_those_that_the_headers_describe():
    for family, case in CASES:
        made, kept = make.inputs(FAMILIES[family]["cases"][case]), tensors(family, case, "inputs")
        assert made.keys() == kept.keys()
        assert all(
            np.allclose(made[n].double().numpy(), kept[n], rtol=1e-6, atol=0) for n in kept
        ), (family, case)


def test_numbers_are_those_of_their_version():
    sums = dict(
        line.split()[::-1] for line in (make.FOLDER / "SHA256SUMS").read_text().splitlines()
    )
    files = sorted(make.FOLDER.glob("*.safetensors"))
    assert sums == {file.name: sha256(file.read_bytes()).hexdigest() for file in files}
    assert {file.stem for file in files} == FAMILIES.keys()
    (version,) = {family["version"] for family in FAMILIES.values()}
    assert f"version {version}" in PAGE


def test_the_page_reads_vectors_without_torch(tmp_path):
    first, second = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    assert len(first.splitlines()) <= 15
    alone = "import sys\nsys.modules['torch'] = sys.modules['safetensors'] = None\n"
    ran = [sys.executable, "-c", alone + first + second]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    said = subprocess.run(
        ran, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert said.returncode == 0, said.stderr
    assert len(said.stdout.splitlines()) == len(CASES)
