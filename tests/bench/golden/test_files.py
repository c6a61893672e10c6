from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from bench.app.errors import ConfigError
from bench.golden.files import DamagedGolden, GoldenFolder

PUBLIC = Path(__file__).resolve().parents[2] / "golden"
CASE = "linear_elu/full_b2h2n49d16"
OTHER = "softmax/causal_b2h2n49d16"


def write_checksums(folder: Path) -> None:
    files = sorted(p for p in folder.rglob("*") if p.is_file() and p.name != "SHA256SUMS")
    lines = [
        f"{hashlib.sha256(p.read_bytes()).hexdigest()}  {p.relative_to(folder).as_posix()}\n"
        for p in files
    ]
    (folder / "SHA256SUMS").write_text("".join(lines))


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    """Two cases without an index and without checksums."""
    for name in (CASE, OTHER):
        (tmp_path / name).parent.mkdir()
        for ending in (".json", ".safetensors"):
            shutil.copy(PUBLIC / f"{name}{ending}", tmp_path / f"{name}{ending}")
    return tmp_path


@pytest.fixture
def listed(bare: Path) -> Path:
    """The same with both."""
    cases = [dict(zip(("mechanism", "case"), n.split("/"), strict=True)) for n in (CASE, OTHER)]
    (bare / "index.json").write_text(json.dumps({"cases": cases}))
    write_checksums(bare)
    return bare


def edit_header(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    path = folder / f"{CASE}.json"
    said = json.loads(path.read_text())
    change(said)
    path.write_text(json.dumps(said))


def damage(folder: Path, name: str = CASE) -> str:
    golden = GoldenFolder(folder)
    with pytest.raises(DamagedGolden) as error:
        golden.read(golden.header(name))
    return str(error.value)


def flip_byte_of(path: Path, tensor: str) -> None:
    data = bytearray(path.read_bytes())
    header_len = int.from_bytes(data[:8], "little")
    start, _ = json.loads(data[8 : 8 + header_len])[tensor]["data_offsets"]
    data[8 + header_len + start] ^= 1
    path.write_bytes(data)


def test_every_public_golden_is_undamaged_and_listed() -> None:
    folder = GoldenFolder(PUBLIC)
    assert folder.damaged_lists == {}
    assert len(folder.names) == json.loads((PUBLIC / "index.json").read_text())["count"] == 126
    for name in folder.names:
        golden = folder.read(folder.header(name))
        assert golden.tensors.keys() == golden.header.shapes.keys()


def test_a_folder_needs_neither_an_index_nor_checksums(bare: Path) -> None:
    folder = GoldenFolder(bare)
    assert folder.names == (CASE, OTHER)
    golden = folder.read(folder.header(CASE))
    assert golden.tensors["out"].dtype == torch.float64
    assert golden.header.results == ("grad.k", "grad.q", "grad.v", "out")
    assert golden.header.hyper["eps"] == 1e-6


def test_a_folder_without_goldens_is_bad_input(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="holds no golden"):
        GoldenFolder(tmp_path)
    with pytest.raises(ConfigError, match="not a folder"):
        GoldenFolder(tmp_path / "missing")
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "unrelated.json").write_text("{}")
    with pytest.raises(ConfigError, match="holds no golden"):
        GoldenFolder(tmp_path)


@pytest.mark.parametrize("given", ["", "public/softmax"])
def test_a_folder_one_step_away_is_named(bare: Path, given: str) -> None:
    (bare / "public").mkdir()
    for name in ("linear_elu", "softmax"):
        (bare / name).rename(bare / "public" / name)
    with pytest.raises(ConfigError, match=f"Did you mean golden={bare}/public\\?"):
        GoldenFolder(bare / given)


def test_one_flipped_bit_is_found_by_its_checksum(listed: Path) -> None:
    flip_byte_of(listed / f"{CASE}.safetensors", "out")
    assert (
        damage(listed)
        == f"{CASE}.safetensors was changed: its SHA-256 is not the one in SHA256SUMS"
    )
    folder = GoldenFolder(listed)
    assert folder.read(folder.header(OTHER)).header.name == OTHER


def published_damage(folder: Path) -> str | None:
    golden = GoldenFolder(folder, GoldenFolder(PUBLIC).checksums)
    try:
        golden.read(golden.header(CASE))
    except DamagedGolden as error:
        return str(error)
    return None


def test_a_copy_without_checksums_is_held_against_the_published_ones(bare: Path) -> None:
    assert published_damage(bare) is None
    flip_byte_of(bare / f"{CASE}.safetensors", "out")
    changed = f"{CASE}.safetensors was changed: it is not the one that was published"
    assert published_damage(bare) == changed


def test_an_edited_header_of_a_copy_is_held_against_the_published_one(bare: Path) -> None:
    edit_header(bare, lambda said: said["bounds"]["float64"].update(out=1.0))
    assert f"{CASE}.json was changed" in (published_damage(bare) or "")


def test_another_golden_of_a_published_name_is_no_copy(bare: Path) -> None:
    flip_byte_of(bare / f"{CASE}.safetensors", "out")
    edit_header(bare, lambda said: said.update(seed=1))
    assert published_damage(bare) is None


def test_an_edited_header_is_found_by_its_checksum(listed: Path) -> None:
    edit_header(listed, lambda said: said["bounds"]["float64"].update(out=1.0))
    assert f"{CASE}.json was changed" in damage(listed)


def test_a_file_that_the_checksums_do_not_list_is_found(listed: Path) -> None:
    sums = (listed / "SHA256SUMS").read_text().splitlines(keepends=True)
    kept = [line for line in sums if f"{CASE}.safetensors" not in line]
    (listed / "SHA256SUMS").write_text("".join(kept))
    assert damage(listed) == f"{CASE}.safetensors is not listed in SHA256SUMS"


def test_checksums_are_read_as_sha256sum_writes_them(listed: Path) -> None:
    sums = (listed / "SHA256SUMS").read_text()
    (listed / "SHA256SUMS").write_text(sums.replace("  ", " *./"))
    folder = GoldenFolder(listed)
    assert folder.damaged_lists == {}
    assert folder.read(folder.header(CASE)).header.name == CASE


@pytest.mark.parametrize("ending", [".json", ".safetensors"])
def test_a_missing_file_is_missed_by_name(listed: Path, ending: str) -> None:
    (listed / f"{CASE}{ending}").unlink()
    assert damage(listed) == f"{CASE}{ending} is missing"


def test_a_case_that_only_the_index_knows_is_missed_by_name(bare: Path) -> None:
    index = {"cases": [{"mechanism": "nala", "case": "lost"}]}
    (bare / "index.json").write_text(json.dumps(index))
    assert "nala/lost" in GoldenFolder(bare).names
    assert damage(bare, "nala/lost") == "nala/lost.json is missing"


def test_a_case_that_the_index_has_elsewhere_is_not_passed_over(bare: Path) -> None:
    index = {"cases": [{"mechanism": "private/nala", "case": "deep"}]}
    (bare / "index.json").write_text(json.dumps(index))
    damage = GoldenFolder(bare).damaged_lists["index.json"]
    assert damage.startswith("index.json lists private/nala/deep.json")


def test_an_index_of_another_form_says_which_one_is_expected(bare: Path) -> None:
    (bare / "index.json").write_text('["nala/deep"]')
    assert "a list 'cases' is expected" in GoldenFolder(bare).damaged_lists["index.json"]


@pytest.mark.parametrize("kept", [0, 4, 100, -1])
def test_a_truncated_file_is_found_by_its_size(bare: Path, kept: int) -> None:
    path = bare / f"{CASE}.safetensors"
    path.write_bytes(path.read_bytes()[:kept])
    assert f"{CASE}.safetensors has" in damage(bare)


def test_a_file_of_the_right_size_that_is_no_safetensors_is_found(bare: Path) -> None:
    path = bare / f"{CASE}.safetensors"
    path.write_bytes(b"\xff" * path.stat().st_size)
    assert f"{CASE}.safetensors cannot be parsed" in damage(bare)


def resave(folder: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    path = folder / f"{CASE}.safetensors"
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path)
    edit_header(folder, lambda said: said.update(bytes=path.stat().st_size))


def test_tensors_that_differ_from_the_header_are_found(bare: Path) -> None:
    resave(bare, lambda tensors: tensors.update(out=tensors["out"].float()))
    assert "out is" in damage(bare)
    resave(bare, lambda tensors: tensors.update(out=tensors["out"].double()[:1].contiguous()))
    assert "out is ((1, 2, 49, 16), 'float64')" in damage(bare)
    resave(bare, lambda tensors: tensors.update(extra=torch.ones(1)))
    assert "extra" in damage(bare)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_what_is_not_finite_must_be_said(bare: Path, bad: float) -> None:
    resave(bare, lambda tensors: tensors["out"][0, 0, 0].fill_(bad))
    assert "out is not finite in 16 of 3136 entries, which its header does not say" in damage(bare)
    edit_header(bare, lambda said: said.update(nonfinite_in_file={"out": {"nan": 16}}))
    folder = GoldenFolder(bare)
    assert folder.read(folder.header(CASE)).header.nonfinite == {"out"}


def drop_inputs(said: dict[str, Any]) -> None:
    said["tensors"] = {k: v for k, v in said["tensors"].items() if not k.startswith("in.")}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (drop_inputs, "it lists no input"),
        (lambda said: said.update(case="another"), "says that it is linear_elu/another"),
        (lambda said: said.update(bytes=1), "its header says 1"),
        (lambda said: said.pop("bytes"), "not a golden's header"),
        (lambda said: said["tensors"].pop("cot"), "no tensors cot and out"),
        (lambda said: said["tensors"]["in.q"].update(shape=[1]), "in.q is"),
        (lambda said: said["bounds"].pop("float32"), "float32"),
        (lambda said: said["bounds"]["float64"].pop("grad.q"), "no float64 bound for grad.q"),
        (lambda said: said["bounds"]["float64"].update(out=-1.0), "negative or not finite"),
        (lambda said: said["bounds"]["float64"].update(out=float("nan")), "not finite"),
        (lambda said: said.update(tensors=[]), "not a golden's header"),
    ],
)
def test_a_header_that_was_edited_is_found_without_checksums(
    bare: Path, change: Callable[[dict[str, Any]], object], told: str
) -> None:
    edit_header(bare, change)
    assert told in damage(bare)


def test_a_header_that_is_cut_off_is_found(bare: Path) -> None:
    path = bare / f"{CASE}.json"
    path.write_text(path.read_text()[:50])
    assert f"{CASE}.json is not a golden's header" in damage(bare)


def test_damaged_lists_are_told_and_the_cases_are_still_read(listed: Path) -> None:
    (listed / "index.json").write_text('{"cases": [')
    assert "index.json" in GoldenFolder(listed).damaged_lists["index.json"]
    (listed / "SHA256SUMS").write_text("no checksums\n")
    folder = GoldenFolder(listed)
    assert folder.damaged_lists.keys() == {"index.json", "SHA256SUMS"}
    assert folder.read(folder.header(CASE)).header.name == CASE


def test_an_index_that_was_edited_is_found_by_its_checksum(listed: Path) -> None:
    (listed / "index.json").write_text('{"cases": []}')
    assert "index.json was changed" in GoldenFolder(listed).damaged_lists["index.json"]


def test_an_index_that_the_checksums_list_and_that_is_gone_is_missed(listed: Path) -> None:
    (listed / "index.json").unlink()
    assert GoldenFolder(listed).damaged_lists == {"index.json": "index.json is missing"}
