"""The workflows of the repository, as far as they can be read without running them."""

import gzip
import re
import subprocess
import sys
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, packages_distributions, requires
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


def load(path):
    return yaml.safe_load(path.read_text())


def steps(name, job=None):
    """Steps of the named job of a workflow, or of its only job."""
    jobs = load(ROOT / ".github" / "workflows" / name)["jobs"]
    if job is None:
        (job,) = jobs
    return jobs[job]["steps"]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_actions_are_pinned_and_whoever_runs_the_code_of_others_may_write_nothing(path):
    content = load(path)
    assert content["permissions"] == {"contents": "read"}
    assert "pull_request_target" not in path.read_text()
    for job in content["jobs"].values():
        assert job["timeout-minutes"] <= 60
        used = [step for step in job["steps"] if "uses" in step]
        assert all(re.fullmatch(r"actions/[\w-]+@[0-9a-f]{40}", step["uses"]) for step in used)
        checkouts = [step for step in used if step["uses"].startswith("actions/checkout@")]
        assert all(step["with"]["persist-credentials"] is False for step in checkouts)
        if "write" in job.get("permissions", {}).values():
            assert not checkouts and not any("run" in step for step in job["steps"])


def test_results_of_others_are_data_and_what_checks_them_may_write_nothing():
    used = [s for s in steps("results.yml") if "uses" in s]
    code, data = (s["with"] for s in used if s["uses"].startswith("actions/checkout"))
    assert "base.sha" in code["ref"] and "ref" not in data
    assert steps("results.yml")[-1]["run"] == "python -m bench.validate ../data ../published"


def test_packed_records_are_checked_with_the_others(tmp_path):
    packed = "docs/results/records.jsonl.gz"
    content = load(ROOT / ".github" / "workflows" / "results.yml")
    assert packed in content[True]["pull_request"]["paths"]
    (tmp_path / "data" / "docs" / "results").mkdir(parents=True)
    line = b'{"no": "record"}\n'
    (tmp_path / "data" / packed).write_bytes(gzip.compress(line))
    unpack, check = (step["run"] for step in steps("results.yml")[-2:])
    subprocess.run(["bash", "-ec", unpack], cwd=tmp_path, check=True)
    assert [f.read_bytes() for f in (tmp_path / "published" / "records").iterdir()] == [line]
    assert check == "python -m bench.validate ../data ../published"


def test_what_checks_results_finds_all_that_it_imports():
    line = next(s["run"] for s in steps("results.yml") if "pip install" in s.get("run", ""))
    installed = with_what_they_bring(line.partition("pip install ")[2].split())
    code = "import sys; old = {*sys.modules}; import bench.validate; print(*{*sys.modules} - old)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    owners = packages_distributions()
    names = {module.partition(".")[0] for module in done.stdout.split()}
    used = {distribution.lower() for name in names for distribution in owners.get(name, ())}
    assert "numpy" in used and used - {"attnbench"} <= installed


def with_what_they_bring(packages):
    """These distributions and all that they require, extras apart, by lower-case name."""
    found: set[str] = set()
    waiting = [name.lower() for name in packages]
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        found |= {name, name.replace("-", "_")}
        with suppress(PackageNotFoundError):  # of another platform
            needs = [line for line in requires(name) or () if "extra ==" not in line]
            waiting += [re.match(r"[\w.-]+", line)[0].lower() for line in needs]
    return found
