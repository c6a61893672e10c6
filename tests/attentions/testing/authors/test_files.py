import json
import shutil
from unittest.mock import Mock

import pytest
import torch
from safetensors.torch import load_file, save_file

from attentions.testing.authors.files import DamagedGolden, GoldenFolder
from tests.attentions.testing.authors.copies import PUBLIC

CASE = "linear_elu/full_b2h2n49d16"
OTHER = "softmax/causal_b2h2n49d16"


@pytest.fixture
def bare(tmp_path):
    """A folder of two cases."""
    for name in (CASE, OTHER):
        (tmp_path / name).parent.mkdir()
        for ending in (".json", ".safetensors"):
            shutil.copy(PUBLIC / f"{name}{ending}", tmp_path / f"{name}{ending}")
    return tmp_path


def edit_header(folder, change):
    path = folder / f"{CASE}.json"
    said = json.loads(path.read_text())
    change(said)
    path.write_text(json.dumps(said))


def damage(folder, name=CASE):
    golden = GoldenFolder(folder)
    with pytest.raises(DamagedGolden) as error:
        golden.read(golden.header(name))
    return str(error.value)


def test_every_public_golden_is_read():
    folder = GoldenFolder(PUBLIC)
    assert len(folder.names) == 252
    for name in folder.names:
        golden = folder.read(folder.header(name))
        assert golden.tensors.keys() == golden.header.shapes.keys()


def test_a_case_is_read_from_its_two_files(bare):
    folder = GoldenFolder(bare)
    assert folder.names == (CASE, OTHER)
    golden = folder.read(folder.header(CASE))
    assert golden.tensors["out"].dtype == torch.float64
    assert golden.header.results == ("grad.k", "grad.q", "grad.v", "out")
    assert "out_sdpa" in folder.header(OTHER).results
    assert golden.header.hyper["eps"] == 1e-6


def test_a_folder_without_goldens_is_bad_input(tmp_path):
    with pytest.raises(ValueError, match="holds no golden"):
        GoldenFolder(tmp_path)
    with pytest.raises(ValueError, match="not a folder"):
        GoldenFolder(tmp_path / "missing")
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "unrelated.json").write_text("{}")
    with pytest.raises(ValueError, match="holds no golden"):
        GoldenFolder(tmp_path)


@pytest.mark.parametrize("given", ["", "public/softmax"])
def test_a_folder_one_step_away_is_named(bare, given):
    (bare / "public").mkdir()
    for name in ("linear_elu", "softmax"):
        (bare / name).rename(bare / "public" / name)
    with pytest.raises(ValueError, match=f"Did you mean golden={bare}/public\\?"):
        GoldenFolder(bare / given)


@pytest.mark.parametrize("ending", [".json", ".safetensors"])
def test_a_missing_file_is_missed_by_name(bare, ending):
    (bare / f"{CASE}{ending}").unlink()
    assert damage(bare) == f"{CASE}{ending} is missing"


@pytest.mark.parametrize("kept", [0, 4, 100, -1])
def test_a_truncated_file_is_found(bare, kept):
    path = bare / f"{CASE}.safetensors"
    path.write_bytes(path.read_bytes()[:kept])
    assert f"{CASE}.safetensors cannot be parsed" in damage(bare)


def test_a_file_of_the_right_size_that_is_no_safetensors_is_found(bare):
    path = bare / f"{CASE}.safetensors"
    path.write_bytes(b"\xff" * path.stat().st_size)
    assert f"{CASE}.safetensors cannot be parsed" in damage(bare)


def resave(folder, change):
    path = folder / f"{CASE}.safetensors"
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path)


def test_tensors_that_differ_from_the_header_are_found(bare):
    resave(bare, lambda tensors: tensors.update(out=tensors["out"].float()))
    assert "out is" in damage(bare)
    resave(bare, lambda tensors: tensors.update(out=tensors["out"].double()[:1].contiguous()))
    assert "out is ((1, 2, 49, 16), 'float64')" in damage(bare)
    resave(bare, lambda tensors: tensors.update(extra=torch.ones(1)))
    assert "extra" in damage(bare)


@pytest.mark.parametrize(("key", "bad"), [("out", float("nan")), ("grad.k", -float("inf"))])
def test_what_is_not_finite_must_be_said_to_the_number(bare, key, bad):
    resave(bare, lambda tensors: tensors[key][0, 0, 0].fill_(bad))
    found = f"{key} is not finite in 16 of 3136 entries"
    assert f"{found}, which its header does not say" in damage(bare)
    for wrong in (15, {"nan": 8, "inf": 9}):
        edit_header(bare, lambda said, count=wrong: said.update(nonfinite_in_file={key: count}))
        assert f"{found}, its header says {15 if wrong == 15 else 17}" in damage(bare)
    folder = GoldenFolder(bare)
    for right in ({key: 16}, {key: {"nan": 8, "inf": 8}}, [key], None):
        edit_header(bare, lambda said, listed=right: said.update(nonfinite_in_file=listed))
        assert folder.read(folder.header(CASE)).tensors[key].isfinite().logical_not().sum() == 16


def test_a_result_without_real_numbers_is_found(bare):
    resave(bare, lambda tensors: tensors.update(out=tensors["out"].long()))
    edit_header(bare, lambda said: said["tensors"]["out"].update(dtype="int64"))
    assert "out is int64; a result is a float" in damage(bare)
    resave(bare, lambda tensors: tensors.update(out=torch.ones(2, 0), cot=torch.ones(2, 0)))
    empty = {"shape": [2, 0], "dtype": "float32"}
    edit_header(bare, lambda said: said["tensors"].update(out=empty, cot=empty))
    assert "out is of shape (2, 0), which holds nothing" in damage(bare)


def test_a_hyperparameter_that_is_null_is_not_stated(bare):
    edit_header(bare, lambda said: said.update(hyper={"eps": None, "feature": "elu+1"}))
    assert GoldenFolder(bare).header(CASE).hyper == {"feature": "elu+1"}


def drop_inputs(said):
    said["tensors"] = {k: v for k, v in said["tensors"].items() if not k.startswith("in.")}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (drop_inputs, "it lists no input"),
        (lambda said: said.update(case="another"), "says that it is linear_elu/another"),
        (lambda said: said.update(mechanism="softmax"), "says that it is softmax/full"),
        (lambda said: said.update(tags="causal"), "its tags are 'causal'; a list is needed"),
        (
            lambda said: said["tensors"]["cot"].update(shape=[1]),
            "its cot is of shape (1,), its out",
        ),
        (lambda said: said.pop("case"), "not a golden's header"),
        (lambda said: said["tensors"].pop("cot"), "no tensors cot and out"),
        (lambda said: said["tensors"]["in.q"].update(shape=[1]), "in.q is"),
        (lambda said: said["bounds"].pop("float32"), "float32"),
        (lambda said: said["bounds"]["float64"].pop("grad.q"), "no float64 bound for grad.q"),
        (lambda said: said["bounds"]["float64"].update(out=-1.0), "negative or not finite"),
        (lambda said: said["bounds"]["float64"].update(out=float("nan")), "not finite"),
        (lambda said: said.update(tensors=[]), "not a golden's header"),
        (lambda said: said["bounds"]["float64"].update(out=10**400), "not a golden's header"),
    ],
)
def test_a_header_that_does_not_fit_is_found(bare, change, told):
    edit_header(bare, change)
    assert told in damage(bare)


def test_a_header_that_is_nested_too_deeply_is_found(bare):
    (bare / f"{CASE}.json").write_text("[" * 100_000)
    assert f"{CASE}.json is not a golden's header" in damage(bare)


def test_a_file_that_may_not_be_read_is_found(bare, monkeypatch):
    monkeypatch.setattr(
        "pathlib.Path.read_bytes",
        Mock(side_effect=PermissionError(13, "Permission denied")),
    )
    assert damage(bare) == f"{CASE}.json cannot be read: Permission denied"
