import json
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from bench.measuring.machine.environment import Environment
from bench.studies.gate.exports import pytest_json, smaller_is_better, stats, write_exports
from bench.studies.gate.verdict import GateVerdict
from tests.bench.studies.gate.fakes import row

ROOT = Path(__file__).resolve().parents[4]
HERE = Environment(
    platform="Linux",
    processor="Imaginary 9000",
    num_cores=2,
    memory_bytes=1,
    versions={"torch": "2.13.0"},
    devices={"cpu": "Imaginary 9000"},
    allocator="retain",
    worker_environment={},
    commit="c" * 40,
    is_dirty=False,
)


def test_statistics_are_those_of_the_seconds():
    found = stats([1.0, 2.0, 3.0, 4.0, 100.0])
    assert (found["min"], found["max"], found["median"], found["rounds"]) == (1.0, 100.0, 3.0, 5)
    assert (found["q1"], found["q3"], found["iqr"]) == (2.0, 4.0, 2.0)
    assert found["hd15iqr"] == 4.0 and found["ld15iqr"] == 1.0
    assert found["mean"] == 22.0 and found["ops"] == pytest.approx(1 / 22)
    assert stats([2.0])["stddev"] == 0.0
    assert stats([0.0, *[5.0] * 6, 5.1, 10.0])["outliers"] == "2;3"  # beyond a deviation; a fence


ROWS = [
    row(GateVerdict.SLOWER, ratio=1.1, samples_s=((0.010, 0.011), (0.012, 0.0132))),
    row(channel="flops", base=100, current=120),
    row(GateVerdict.INCOMPARABLE, entry="linear"),
    row(channel="flops", entry="linear", base=7, current=8),
]


def test_a_comparison_of_commits_is_written_with_both_sides_of_every_timed_cell():
    content = pytest_json(ROWS, HERE, "2031-05-06T07:08:09Z")
    base, current = content["benchmarks"]
    assert base["stats"]["data"] == [0.010, 0.012]
    assert current["stats"]["data"] == [0.011, 0.0132]
    assert base["group"] == current["group"] and base["fullname"] != current["fullname"]
    assert (base["extra_info"]["flops"], current["extra_info"]["flops"]) == (100, 120)
    assert "latency" not in base["extra_info"]
    assert content["commit_info"] == {"id": "c" * 40, "dirty": False}
    assert content["machine_info"]["node"] == ""  # names no host


def test_stored_numbers_are_written_without_a_machine_and_commits_with_one(tmp_path):
    def names(here):
        return [file.name for file in write_exports(ROWS, tmp_path, here, "2031-05-06T07:08:09Z")]

    assert names(None) == ["regress-smaller-is-better.json"]
    assert names(HERE) == ["regress-smaller-is-better.json", "regress-pytest.json"]
    assert json.loads((tmp_path / "regress-pytest.json").read_text())["benchmarks"]


def test_the_benchmark_action_gets_a_name_a_unit_and_a_value_for_every_ratio():
    rows = [
        row(),
        row(channel="flops"),
        row(GateVerdict.NEW, entry="dpfp", ratio=None, low=None, high=None),
        row(GateVerdict.SLOWER, entry="performer", ratio=1.2, low=1.1, high=1.3),
        row(GateVerdict.MORE, "num_operators", entry="linear", ratio=8 / 7, low=8 / 7, high=8 / 7),
    ]
    listed = smaller_is_better(rows)
    assert all({"name", "unit", "value", "range", "extra"} == set(one) for one in listed)
    assert len({one["name"] for one in listed}) == len(listed) == 4
    (slower,) = (one for one in listed if one["extra"] == "SLOWER")
    assert slower["value"] == 1.2 and slower["range"] == "1.1000 - 1.3000"


def test_an_accuracy_that_rises_is_no_growth_and_one_that_falls_is():
    def listed(channel, ratio):
        (one,) = smaller_is_better([row(channel=channel, ratio=ratio, low=ratio, high=ratio)])
        return one["value"], one["range"], one["unit"]

    assert listed("accuracy", 2.0) == (0.5, "0.5000 - 0.5000", "base / current")
    assert listed("accuracy", 0.5) == (2.0, "2.0000 - 2.0000", "base / current")
    assert listed("loss", 1.16) == (1.16, "1.1600 - 1.1600", "ratio to base")
    assert smaller_is_better([row(channel="accuracy", ratio=0.0, low=0.0, high=0.0)]) == []


def test_pytest_benchmark_compare_reads_what_is_written(tmp_path):
    file = tmp_path / "regress-pytest.json"
    file.write_text(json.dumps(pytest_json(ROWS, HERE, "2031-05-06T07:08:09Z")))
    script = "import sys; from pytest_benchmark.cli import main; sys.exit(main())"
    command = [sys.executable, "-c", script, "compare", str(file), "--csv=table"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "nala seq_len=64 float32 forward cpu current" in done.stdout


@pytest.mark.slow
def test_the_suite_of_benchmarks_runs_and_stores(tmp_path):
    file = tmp_path / "p.json"
    command = [sys.executable, "-m", "pytest", "tests/perf", "--benchmark-only", "-q"]
    command += [f"--benchmark-json={file}", f"--benchmark-storage={tmp_path}"]
    command += ["--benchmark-autosave", "-k", "linear-256 or softmax-256", "-p", "no:cacheprovider"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    content = json.loads(file.read_text())
    assert len(list(tmp_path.glob("*/0001_*.json"))) == 1
    for one in content["benchmarks"]:
        extra = one["extra_info"]
        assert one["group"].startswith("seq_len=256 core forward")
        assert extra["flops"] > 0 and extra["peak_memory_bytes"] > 0
        assert extra["speedup_over_softmax"] > 0 and extra["num_threads"] == 1


def test_ordinary_runs_are_of_all_tests_but_the_benchmarks():
    options = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["pytest"]["ini_options"]
    assert "--benchmark-skip" in options["addopts"]
    collected = {path for pattern in options["testpaths"] for path in ROOT.glob(pattern)}
    ordinary = {path for path in ROOT.glob("tests/**/test_*.py") if "perf" not in path.parts}
    assert all(collected & {path, *path.parents} for path in ordinary)
    assert not collected & {ROOT / "tests", ROOT / "tests" / "perf"}
