from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from torch import Tensor

from attentions import attention_class
from bench.badges import Badge, BadgeStatus, read_badges
from bench.errors import ConfigError
from bench.numerics.official import PLACES
from bench.numerics.page import page_of
from bench.numerics.store import read_findings
from bench.proof import Proof, Verdict
from bench.verify import (
    VerifyConfig,
    exit_code,
    main,
    read_verify_config,
    reasons,
    run,
    run_conformance,
    run_numerics,
    summary,
    table,
    verify,
    write_rows,
)

PUBLIC = Path(__file__).resolve().parent.parent / "golden"
FIELDS = ["golden", "mechanism", "case", "status", "error", "bound", "dtype", "reason"]
PROVEN = {
    "softmax": 12,
    "linear": 12,
    "performer": 13,
    "flatten": 10,
    "flatten_layer": 5,
    "nala": 12,
    "nala_layer": 3,
    "nala_vanilla": 1,
    "nala_cosine": 12,
    "efficient": 4,
    "efficient_layer": 1,
    "cosformer": 8,
    "polaformer": 9,
    "polaformer_layer": 3,
    "polaformer_pp": 1,
    "hedgehog": 1,
    "taylor": 1,
    "inline": 2,
    "inline_layer": 1,
    "mlla": 1,
    "linear_unnormalised": 1,
    "agent_layer": 1,
    "linformer_layer": 2,
    "nystromformer": 2,
}
ANOTHER_FORM = {
    "performer/softmax_causal_b1h2n60d32m40",
    "performer/softmax_causal_b2h2n49d16m24",
}


def config(golden: Path, *attention: str, out: Path = Path("unused.json")) -> VerifyConfig:
    return VerifyConfig(golden=golden, attention=attention, out=out)


@pytest.fixture(scope="module")
def public() -> list[Proof]:
    return list(verify(config(PUBLIC)))


def copy_case(folder: Path, name: str, new_name: str = "") -> None:
    target = folder / (new_name or name)
    target.parent.mkdir(parents=True, exist_ok=True)
    said = (PUBLIC / f"{name}.json").read_text()
    case = name.partition("/")[2]
    Path(f"{target}.json").write_text(said.replace(f'"case": "{case}"', f'"case": "{target.name}"'))
    shutil.copy(PUBLIC / f"{name}.safetensors", f"{target}.safetensors")


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """Three cases of three mechanisms, without index and checksums."""
    for name in (
        "linear_elu/full_b2h2n49d16",
        "performer/softmax_b2h2n49d16m24",
        "softmax/causal_b2h2n49d16",
    ):
        copy_case(tmp_path / "golden", name)
    return tmp_path / "golden"


@pytest.fixture
def wrong_linear(monkeypatch: pytest.MonkeyPatch) -> None:
    """A linear attention that is off by a thousandth."""
    cls = attention_class("linear")
    right = cls.forward

    def forward(self: Any, q: Tensor, k: Tensor, v: Tensor, **masks: Tensor) -> Tensor:
        out: Tensor = right(self, q, k, v, **masks) * 1.001
        return out

    monkeypatch.setattr(cls, "forward", forward)


# The public goldens.


@pytest.mark.parametrize(("mechanism", "count"), PROVEN.items())
def test_every_golden_of_a_mechanism_passes(
    public: list[Proof], mechanism: str, count: int
) -> None:
    mine = [p for p in public if p.mechanism == mechanism and p.status is not Verdict.NOT_COVERED]
    assert {p.golden: p.reason for p in mine if p.status is Verdict.FAILED} == {}
    assert len(mine) == count


def test_only_other_forms_of_proven_mechanisms_are_not_covered(public: list[Proof]) -> None:
    folders = {p.golden.partition("/")[0] for p in public if p.status is Verdict.PASSED}
    left = {
        p.golden
        for p in public
        if p.status is Verdict.NOT_COVERED and p.golden.partition("/")[0] in folders
    }
    assert left == ANOTHER_FORM
    assert len(public) == 126


def test_what_is_not_covered_says_why(public: list[Proof]) -> None:
    assert all(p.reason for p in public if p.status is Verdict.NOT_COVERED)
    why = {p.golden: p.reason or "" for p in public}
    assert "leaks the future" in why["performer/softmax_causal_b1h2n60d32m40"]


def test_rows_left_out_for_official_nans_are_told(public: list[Proof]) -> None:
    told = {p.golden for p in public if "not finite officially" in (p.reason or "")}
    assert told == {
        "nala/adv_zero_query_row",
        "nala_cosine/adv_all_keys_zero_alpha20",
        "nala_cosine/adv_zero_key_row_alpha20",
        "nala_cosine/adv_zero_query_row_alpha20",
    }


def test_case_names_say_nothing(public: list[Proof], tmp_path: Path) -> None:
    for number, proof in enumerate(public):
        if proof.status is Verdict.PASSED or proof.golden in ANOTHER_FORM:
            folder = proof.golden.partition("/")[0]
            copy_case(tmp_path, proof.golden, f"{folder}/case{number:03}")
    renamed = list(verify(config(tmp_path)))
    outcome = [(p.mechanism, p.status, p.error) for p in renamed]
    expected = [
        (p.mechanism, p.status, p.error)
        for p in public
        if p.status is Verdict.PASSED or p.golden in ANOTHER_FORM
    ]
    assert outcome == expected


# Which cases are taken.


def test_a_folder_without_index_and_checksums_is_proven(small: Path) -> None:
    proofs = list(verify(config(small)))
    assert [p.golden for p in proofs] == [
        "linear_elu/full_b2h2n49d16",
        "performer/softmax_b2h2n49d16m24",
        "softmax/causal_b2h2n49d16",
    ]
    assert {p.status for p in proofs} == {Verdict.PASSED}


def test_attention_narrows_by_our_names(small: Path) -> None:
    assert [p.mechanism for p in verify(config(small, "linear", "softmax"))] == [
        "linear",
        "softmax",
    ]


def test_forms_of_one_folder_are_told_apart_when_narrowing() -> None:
    layers = list(verify(config(PUBLIC, "nala_layer")))
    assert len(layers) == 3
    assert all(p.golden.startswith("nala/module_") for p in layers)


def test_an_unknown_mechanism_is_bad_input_with_the_nearest_name(small: Path) -> None:
    with pytest.raises(ConfigError, match="Did you mean linear"):
        list(verify(config(small, "linaer")))


def test_a_plugin_that_cannot_be_imported_is_bad_input(small: Path) -> None:
    asked = VerifyConfig(
        golden=small, attention=(), out=Path("unused.json"), plugins=("no_such_module",)
    )
    with pytest.raises(ConfigError, match="no_such_module cannot be imported"):
        list(verify(asked))


def test_a_plugins_mechanism_is_proven_by_a_folder_of_its_name(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my_plugin_for_verify.py").write_text(
        "from attentions import Capabilities, register_attention\n"
        "from attentions.linear import Linear\n\n\n"
        '@register_attention("my_linear", title="t", source="s", capabilities=Capabilities())\n'
        "class MyLinear(Linear):\n    pass\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr("attentions.registry._REGISTRY", dict(_registry()))
    said = json.loads((small / "linear_elu/full_b2h2n49d16.json").read_text())
    (small / "my_linear").mkdir()
    said["mechanism"] = "my_linear"
    (small / "my_linear/full_b2h2n49d16.json").write_text(json.dumps(said))
    shutil.copy(small / "linear_elu/full_b2h2n49d16.safetensors", small / "my_linear")
    asked = VerifyConfig(
        golden=small,
        attention=("my_linear",),
        out=Path("unused.json"),
        plugins=("my_plugin_for_verify",),
    )
    assert [(p.golden, p.status) for p in verify(asked)] == [
        ("my_linear/full_b2h2n49d16", Verdict.PASSED)
    ]


def _registry() -> dict[str, Any]:
    from attentions import registry

    registry.attention_names()
    return registry._REGISTRY


# Damage.


def failures(folder: Path, *attention: str) -> dict[str, tuple[str | None, str | None]]:
    proofs = verify(config(folder, *attention))
    return {p.golden: (p.mechanism, p.reason) for p in proofs if p.status is Verdict.FAILED}


def flip_bit_of_output(path: Path, byte: int, mask: int) -> None:
    data = bytearray(path.read_bytes())
    header_len = int.from_bytes(data[:8], "little")
    start, _ = json.loads(data[8 : 8 + header_len])["out"]["data_offsets"]
    data[8 + header_len + start + byte] ^= mask
    path.write_bytes(data)


def test_a_flipped_bit_in_a_copy_fails_by_name_however_small(small: Path) -> None:
    flip_bit_of_output(small / "linear_elu/full_b2h2n49d16.safetensors", byte=0, mask=1)
    assert failures(small) == {
        "linear_elu/full_b2h2n49d16": (
            "linear",
            "linear_elu/full_b2h2n49d16.safetensors was changed: "
            "it is not the one that was published",
        )
    }


def test_a_changed_output_of_another_set_fails_by_its_numbers(tmp_path: Path) -> None:
    copy_case(tmp_path, "linear_elu/full_b2h2n49d16", "linear_elu/unpublished")
    flip_bit_of_output(tmp_path / "linear_elu/unpublished.safetensors", byte=6, mask=0x10)
    mechanism, reason = failures(tmp_path)["linear_elu/unpublished"]
    assert mechanism == "linear"
    assert "out in float64 is off by" in (reason or "")


def test_a_truncated_file_fails_by_name_and_the_others_are_proven(small: Path) -> None:
    path = small / "performer/softmax_b2h2n49d16m24.safetensors"
    path.write_bytes(path.read_bytes()[:1000])
    assert failures(small).keys() == {"performer/softmax_b2h2n49d16m24"}
    assert failures(small, "linear") == {}


def test_a_damaged_header_fails_under_the_only_mechanism_it_can_be_about(small: Path) -> None:
    (small / "linear_elu/full_b2h2n49d16.json").write_text("{")
    assert failures(small)["linear_elu/full_b2h2n49d16"][0] == "linear"
    (small / "softmax/causal_b2h2n49d16.safetensors").unlink()
    assert failures(small, "softmax") == {
        "softmax/causal_b2h2n49d16": (
            "softmax",
            "softmax/causal_b2h2n49d16.safetensors is missing",
        )
    }


def test_damage_is_found_in_goldens_of_mechanisms_that_are_not_registered(tmp_path: Path) -> None:
    copy_case(tmp_path, "hedgehog/feature_map")
    path = (tmp_path / "hedgehog").rename(tmp_path / "unheard_of") / "feature_map.safetensors"
    header = path.with_suffix(".json")
    header.write_text(header.read_text().replace('"hedgehog"', '"unheard_of"'))
    path.write_bytes(path.read_bytes()[:-1])
    mechanism, reason = failures(tmp_path)["unheard_of/feature_map"]
    assert mechanism is None and "bytes" in (reason or "")
    header.write_text("{")
    mechanism, reason = failures(tmp_path)["unheard_of/feature_map"]
    assert mechanism is None and "not a golden's header" in (reason or "")


def test_a_damaged_index_fails_by_name(small: Path) -> None:
    (small / "index.json").write_text("[]")
    assert failures(small).keys() == {"index.json"}


# What is shown and written.


def test_rows_have_the_fields_that_readers_expect(public: list[Proof], tmp_path: Path) -> None:
    path = tmp_path / "deep" / "verify.json"
    write_rows(path, public)
    rows = json.loads(path.read_text())
    assert [list(row) for row in rows] == [FIELDS] * len(public)
    assert Counter(row["status"] for row in rows) == Counter(p.status.value for p in public)
    for row in rows:
        assert row["golden"].endswith(f"/{row['case']}")
        numbers = (row["error"], row["bound"], row["dtype"])
        assert (None not in numbers) == (row["status"] == "passed")


def test_rows_replace_an_older_file_and_leave_nothing_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "verify.json"
    path.write_text("old")
    write_rows(path, [])
    assert json.loads(path.read_text()) == []
    assert [p.name for p in tmp_path.iterdir()] == ["verify.json"]


def shown(proofs: list[Proof]) -> list[list[str]]:
    console = Console(width=140)
    with console.capture() as captured:
        console.print(table(proofs))
    lines = [line for line in captured.get().splitlines() if line.startswith("│")]
    return [[cell.strip() for cell in line.strip("│").split("│")] for line in lines]


def test_the_table_has_a_row_per_case_and_the_summary_counts_them() -> None:
    passed = Proof(
        golden="a/b", mechanism="m", case="b", status=Verdict.PASSED,
        error=1.2e-7, bound=3e-6, dtype="float32",
    )  # fmt: skip
    nan = Proof(
        golden="a/c", mechanism="m", case="c", status=Verdict.FAILED,
        bound=3e-6, dtype="float64", reason="out in float64 is not finite",
    )  # fmt: skip
    other = Proof(golden="d/e", mechanism=None, case="e", status=Verdict.NOT_COVERED, reason="why")
    assert shown([passed, nan, other]) == [
        ["a/b", "m", "passed", "1.2e-07 / 3e-06", "float32"],
        ["a/c", "m", "failed", "not finite / 3e-06", "float64"],
        ["d/e", "-", "not covered", "-", ""],
    ]
    assert summary([passed, nan, other]) == "1 passed, 1 failed, 1 not covered"
    assert reasons([passed, nan, other]) == [
        "FAILED a/c: out in float64 is not finite",
        "not covered: 1 of d: why",
    ]


# The command.


def test_exit_codes_tell_a_proof_from_a_failed_one(
    small: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    out = tmp_path / "out" / "verify.json"
    quiet = Console(quiet=True)
    assert run(config(small, out=out), quiet) == 0
    request.getfixturevalue("wrong_linear")
    assert run(config(small, out=out), quiet) == 1
    assert [row["status"] for row in json.loads(out.read_text())] == ["failed", "passed", "passed"]


def test_nothing_to_prove_is_no_failure() -> None:
    assert exit_code([]) == 0


def test_an_unwritable_out_is_refused_before_anything_is_proven(
    small: Path, tmp_path: Path, wrong_linear: None
) -> None:
    (tmp_path / "file").write_text("")
    for out in (tmp_path / "file" / "verify.json", tmp_path):
        with pytest.raises(ConfigError, match="cannot be written"):
            run(config(small, out=out), Console(quiet=True))


def test_the_command_line_names_goldens_entries_and_the_file(
    small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "verify.json"
    words = [f"golden={small}", f"out={out}", "attention=[linear,performer]"]
    assert main(words) == 0
    assert "2 passed, 0 failed, 0 not covered" in capsys.readouterr().out
    assert [row["mechanism"] for row in json.loads(out.read_text())] == ["linear", "performer"]
    assert main(words) == 0, "a file that is there is written anew"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["golden=missing"], "golden=missing is not a folder"),
        (["attention=[linaer]"], "linear"),
        (["goldn=x"], "golden"),
        (["golden=[a,b]"], "golden is the list"),
    ],
)
def test_bad_input_ends_with_code_2_and_the_remedy(
    words: list[str], told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([f"out={tmp_path / 'verify.json'}", *words]) == 2
    error = capsys.readouterr().err
    assert told in error and "Traceback" not in error


def test_without_a_golden_folder_the_projects_own_is_taken(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    given = {"golden": None, "attention": None, "out": "verify.json", "plugins": []}
    monkeypatch.chdir(tmp_path)
    assert read_verify_config(given).golden == PUBLIC
    monkeypatch.setattr("bench.__file__", str(tmp_path / "bench" / "__init__.py"))
    with pytest.raises(ConfigError, match="golden=DIR"):
        read_verify_config(given)
    (tmp_path / "tests" / "golden").mkdir(parents=True)
    assert read_verify_config(given).golden.resolve() == (tmp_path / "tests" / "golden").resolve()


def test_entries_stand_for_their_mechanisms() -> None:
    entries = {
        "performer_m64": {"mechanism": "performer", "num_features": 64},
        "performer": {"mechanism": "performer"},
    }
    given = {"golden": str(PUBLIC), "attention": entries, "out": "verify.json"}
    assert read_verify_config(given).attention == ("performer",)


# Claims and numerics.

PLUGIN = """
import attentions
from attentions import Capabilities, register_attention
from attentions.softmax_explicit import SoftmaxExplicit


@register_attention(
    "{name}",
    title="T",
    source="S",
    capabilities=Capabilities(causal=True, cross=True, recurrent=True, exact={exact}),
)
class Mine(SoftmaxExplicit):
    def forward(self, q, k, v):
        return super().forward(q, k, v)
"""


def run_with_plugin(folder: Path, exact: bool, *words: str) -> subprocess.CompletedProcess[str]:
    name = f"mine_{exact}".lower()
    (folder / f"plug_{name}.py").write_text(PLUGIN.format(name=name, exact=exact))
    entries = folder / "conf" / "attention"
    entries.mkdir(parents=True, exist_ok=True)
    (entries / f"{name}.yaml").write_text(f"{name}:\n  mechanism: {name}\n")
    return subprocess.run(
        [
            *(sys.executable, "-m", "bench.verify", "--config-dir", str(folder / "conf")),
            *(f"attention=[{name}]", f"plugins=[plug_{name}]", f"out={folder}/out/verify.json"),
            *words,
        ],
        capture_output=True,
        text=True,
        cwd=PUBLIC.parent.parent,
        env=os.environ | {"PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1"},
        check=False,
    )


def test_a_plugins_claims_are_tested_and_its_badges_kept(tmp_path: Path) -> None:
    done = run_with_plugin(tmp_path, True, "conformance=true")
    assert done.returncode == 0, done.stdout + done.stderr
    badges = read_badges(tmp_path / "out")["mine_true"]
    assert badges["exact"].status is BadgeStatus.PASSED
    assert badges["padding"].status is BadgeStatus.NOT_CLAIMED
    assert badges["exact"].source
    assert "[1/1] mine_true" in done.stdout


def test_a_claim_that_fails_is_told_with_its_reason_and_ends_with_1(tmp_path: Path) -> None:
    done = run_with_plugin(tmp_path, False, "conformance=true")
    assert done.returncode == 1
    assert "FAILED mine_false: exact" in done.stdout
    badge = read_badges(tmp_path / "out")["mine_false"]["exact"]
    assert badge.status is BadgeStatus.FAILED
    assert "claim exact" in (badge.reason or "")


def test_badges_of_finished_mechanisms_outlive_ctrl_c(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def badges_of(name: str, source: str) -> tuple[Badge, ...]:
        if name == "softmax":
            raise KeyboardInterrupt
        return (Badge(claim="causal", status=BadgeStatus.PASSED),)

    monkeypatch.setattr("bench.verify.badges_of", badges_of)
    asked = VerifyConfig(
        golden=PUBLIC, attention=("linear", "softmax"), out=tmp_path / "verify.json"
    )
    console = Console(record=True, width=120)
    with pytest.raises(KeyboardInterrupt):
        run_conformance(asked, console)
    assert list(read_badges(tmp_path)) == ["linear"]
    assert "1 passed, 0 failed" in console.export_text()


def test_two_commands_at_once_are_bad_input() -> None:
    with pytest.raises(ConfigError, match="conformance=true and numerics=true"):
        read_verify_config({"out": "a.json", "conformance": True, "numerics": True})


def test_numerics_are_kept_and_become_a_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bench.numerics.measure.LENGTHS", (64,))
    monkeypatch.setattr("bench.verify.PLACES", PLACES[:1])
    asked = VerifyConfig(golden=PUBLIC, attention=("uniform",), out=tmp_path / "verify.json")
    assert run_numerics(asked, Console(record=True)) == 0
    page = (tmp_path / "numerics" / "numerics.md").read_text()
    assert "| uniform, causal |" in page
    assert (
        "| nala | a zero query | float32 | 49 | output and gradient not finite | finite |" in page
    )


def test_the_page_of_numerics_is_made_of_the_findings_in_git() -> None:
    root = PUBLIC.parent.parent
    page = page_of(read_findings(root / "results"))
    assert (root / "docs" / "numerics.md").read_text() == page
