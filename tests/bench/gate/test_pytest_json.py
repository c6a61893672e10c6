import copy
import json
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from bench.app.errors import ConfigError
from bench.gate.pytest_json import SECONDS, pytest_json, side_of_pytest_json, stats
from bench.gate.rows import exit_code
from bench.gate.stored import compare_stored
from bench.gate.verdict import Verdict
from bench.machine.environment import Environment
from tests.bench.gate.fakes import row

ROOT = Path(__file__).resolve().parents[3]
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


def benchmark(entry, median, **extra):
    name = f"test_one_call[{entry}]"
    return {
        "name": name,
        "fullname": f"tests/perf/test_mechanisms.py::{name}",
        "extra_info": {"entry": entry, "mechanism": entry, "num_threads": 1} | extra,
        "stats": {"median": median},
    }


CONTENT = {
    "machine_info": {"cpu": {"brand_raw": "Imaginary 9000"}},
    "commit_info": {"id": "a" * 40},
    "benchmarks": [
        benchmark("nala", 0.01, flops=100, num_operators=7),
        benchmark("linear", 0.02, flops=50, num_operators=3),
    ],
}


def side(content, name="p.json"):
    return side_of_pytest_json(json.dumps(content), Path(name))


def compared(base, current):
    return compare_stored(side(base), side(current), 0.2, 0.01)


def changed(index, **stats_or_extra):
    content = copy.deepcopy(CONTENT)
    for name, value in stats_or_extra.items():
        part = "stats" if name == "median" else "extra_info"
        content["benchmarks"][index][part][name] = value
    return content


def test_a_file_against_itself_is_the_same():
    rows = compared(CONTENT, CONTENT)
    assert {r.verdict for r in rows} == {Verdict.SAME} and exit_code(rows) == 0
    assert {r.channel for r in rows} == {"latency", "flops", "num_operators"}


def test_a_median_raised_by_30_per_cent_fails_and_is_named_alone():
    rows = compared(CONTENT, changed(0, median=0.013))
    assert exit_code(rows) == 1
    assert [r.entry for r in rows if r.verdict is Verdict.SLOWER] == ["nala"]
    assert exit_code(compared(CONTENT, changed(0, median=0.0115))) == 0


def test_extra_info_names_the_mechanism_and_carries_the_numbers_without_noise():
    rows = compared(CONTENT, changed(1, num_operators=4))
    assert [(r.mechanism, r.channel) for r in rows if r.verdict is Verdict.MORE] == [
        ("linear", "num_operators")
    ]


def test_a_slower_median_shows_how_far_the_ratio_to_softmax_moved():
    ratios = {
        "speedup_over_softmax": 2.0,
        "speedup_over_softmax_low": 1.9,
        "speedup_over_softmax_high": 2.1,
    }
    rows = compared(changed(0, **ratios), changed(0, median=0.02, **ratios))
    (slower,) = (r for r in rows if r.verdict is Verdict.SLOWER)
    assert "against softmax in the same rounds it moved by 1.000" in slower.reason


def test_a_file_of_another_suite_is_compared_by_its_medians():
    foreign = {"benchmarks": [{"name": "b", "fullname": "t.py::b", "stats": {"median": 1.0}}]}
    (same,) = compared(foreign, foreign)
    assert (same.entry, same.cell, same.verdict) == ("b", "t.py::b", Verdict.SAME)


@pytest.mark.parametrize(
    "change",
    [
        {"machine_info": {"cpu": {"brand_raw": "Other"}}},
        {"benchmarks": [benchmark("nala", 0.01, num_threads=2)]},
        {"benchmarks": [benchmark("nala", 0.01, method_version=2)]},
    ],
)
def test_another_machine_thread_count_or_method_is_refused(change):
    with pytest.raises(ConfigError, match="not measured alike"):
        compared(CONTENT, CONTENT | change)


@pytest.mark.parametrize("median", [0, -1.0, float("inf"), "fast", None])
def test_a_median_that_is_no_time_is_refused(median):
    with pytest.raises(ConfigError, match=r"p\.json"):
        side(changed(0, median=median))


def test_statistics_are_those_of_the_seconds():
    found = stats([1.0, 2.0, 3.0, 4.0, 100.0])
    assert (found["min"], found["max"], found["median"], found["rounds"]) == (1.0, 100.0, 3.0, 5)
    assert (found["q1"], found["q3"], found["iqr"]) == (2.0, 4.0, 2.0)
    assert found["iqr_outliers"] == 1 and found["hd15iqr"] == 4.0 and found["ld15iqr"] == 1.0
    assert found["mean"] == 22.0 and found["ops"] == pytest.approx(1 / 22)
    assert stats([2.0])["stddev"] == 0.0
    assert stats([0.0, *[5.0] * 6, 10.0])["outliers"] == "2;2"  # beyond a deviation; a fence


ROWS = [
    row(Verdict.SLOWER, ratio=1.1, samples_s=((0.010, 0.011), (0.012, 0.0132))),
    row(channel="flops", base=100, current=120),
    row(Verdict.INCOMPARABLE, entry="linear"),
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
    assert content["commit_info"]["id"] == "c" * 40
    assert content["machine_info"]["node"] == ""  # names no host


def test_what_is_written_is_read_again():
    content = pytest_json(ROWS, HERE, "2031-05-06T07:08:09Z")
    again = side(content)
    assert again.unit == SECONDS and len(again.cells) == 2
    assert {r.verdict for r in compared(content, content)} == {Verdict.SAME}


def test_pytest_benchmark_compare_reads_what_is_written(tmp_path):
    file = tmp_path / "regress-pytest.json"
    file.write_text(json.dumps(pytest_json(ROWS, HERE, "2031-05-06T07:08:09Z")))
    script = "import sys; from pytest_benchmark.cli import main; sys.exit(main())"
    command = [sys.executable, "-c", script, "compare", str(file), "--columns=min,median,rounds"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "nala seq_len=64 float32 forward cpu current" in done.stdout


@pytest.mark.slow
def test_the_suite_of_benchmarks_runs_stores_and_is_compared(tmp_path):
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
    assert {r.verdict for r in compared(content, content)} == {Verdict.SAME}


def test_ordinary_runs_are_of_all_tests_but_the_benchmarks():
    options = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["pytest"]["ini_options"]
    assert "--benchmark-skip" in options["addopts"]
    collected = {path for pattern in options["testpaths"] for path in ROOT.glob(pattern)}
    ordinary = {path for path in ROOT.glob("tests/**/test_*.py") if "perf" not in path.parts}
    assert all(collected & {path, *path.parents} for path in ordinary)
    assert not collected & {ROOT / "tests", ROOT / "tests" / "perf"}
