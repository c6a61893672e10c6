from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from bench import validate
from bench.metrics.roofline import floor_s
from bench.record import Record
from bench.store import Store
from tests import records as made

CEILING = made.ceiling(bytes_per_s=[[10**6, 1e9], [10**9, 1e9]])


def store(out: Path, *records: Record) -> Path:
    here = Store(out, "a")
    for record in records:
        here.append(record)
    return here.path


def test_sound_results_are_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store(tmp_path / "mine", *made.sweep_records())
    store(tmp_path / "yours", *made.model_records())
    assert validate.main([str(tmp_path)]) == 0
    count = len(made.sweep_records()) + len(made.model_records())
    assert f"{count} records, 2 files, 0 calibrations; 0 problems." in capsys.readouterr().out


def test_a_bad_line_is_named_by_file_and_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = store(tmp_path, *made.block_records(["softmax", "nala"]))
    with path.open("a") as file:
        file.write('{"entry":"\\u001b[2J"}\nnot a record\n{"entry":"torn')
    assert validate.main([str(tmp_path)]) == 2
    said = capsys.readouterr()
    assert [line.split(": ")[0] for line in said.err.splitlines()] == [
        f"{path}:{number}" for number in (3, 4, 5)
    ]
    assert "2 records, 1 file, 0 calibrations; 3 problems." in said.out
    assert "\x1b" not in said.err + said.out


def calibrated(latency_of_floor: float) -> Record:
    facts = made.ENVIRONMENT | {"calibration": {"ceilings": [CEILING]}}
    cell = made.kernel_cell("nala", seq_len=1024)
    speed = made.speed([1.0, 1.0, 1.0], flops=10**9)
    floor = floor_s(made.ok_record(cell, speed, environment=facts))
    assert floor == pytest.approx(1.0)
    samples = [latency_of_floor * floor] * 3
    return made.ok_record(cell, made.speed(samples, flops=10**9), environment=facts)


def test_no_time_lies_below_its_roofline_floor(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = store(tmp_path, calibrated(1.5))
    assert validate.main([str(tmp_path)]) == 0
    store(tmp_path, calibrated(0.5))
    assert validate.main([str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert (
        said.startswith(f"{path}:2: nala seq_len=1024") and "0.5 s, and 1 s are the least" in said
    )


def test_a_damaged_calibration_is_a_problem(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store(tmp_path, calibrated(1.5))
    file = tmp_path / "calibration" / "imaginary.json"
    file.parent.mkdir()
    for content in ("[]", "{", json.dumps({"ceilings": [CEILING | {"flops_per_s": -1}]})):
        file.write_text(content)
        assert validate.main([str(tmp_path)]) == 2
        assert f"{file} is not a calibration" in capsys.readouterr().err
    file.write_text(json.dumps({"ceilings": [CEILING]}))
    assert validate.main([str(tmp_path)]) == 0


@pytest.mark.parametrize("words", [[], ["nowhere"], ["--help=1"], ["dir=x"]])
def test_what_is_no_folder_of_results_ends_with_2(
    tmp_path: Path, words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert validate.main(words) == 2


def test_it_needs_neither_torch_nor_hydra(tmp_path: Path) -> None:
    store(tmp_path, *made.block_records(["nala"]))
    code = (
        "import sys; from bench import merge, validate; code = validate.main(sys.argv[1:]);"
        "sys.exit(code or bool({'torch', 'hydra', 'wandb', 'psutil'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False)
    assert done.returncode == 0
