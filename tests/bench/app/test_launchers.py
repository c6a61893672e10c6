"""Jobs of a multirun, wherever they run: the cells of the plain list, each measured once."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from bench import sweep
from bench.app.command import CONF
from bench.app.multirun import EXTRAS
from tests.bench import slurm_cluster

ROOT = Path(__file__).resolve().parent.parent.parent.parent
SHAPE = ["num_heads=2", "head_dim=8", "measure.budget_s=0.02", "task.recall.num_steps=2"]
LISTS = ["attention=[softmax,linear]", "seq_len=[32,48]", "task=[recall]"]
JOBS = ["attention=softmax,linear", "seq_len=32,48", "task=recall"]
QUIET = ["charts=false", "wandb.mode=disabled"]


def start(out, *words, **more):
    environment = os.environ | {"PYTHONPATH": str(ROOT), "COLUMNS": "200"} | more
    environment.pop("ATTNBENCH_SWEEP", None)
    line = [sys.executable, "-m", "bench.sweep", *words, *SHAPE, *QUIET, f"out={out}"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.Popen(line, env=environment, cwd=out.parent, **pipes)


def keys(out):
    files = sorted(Path(out, "records").glob("*.jsonl"))
    return sorted(json.loads(line)["key"] for f in files for line in f.read_text().splitlines())


def planned(out, capsys):
    """Keys of the plain list's cells."""
    assert sweep.main([*LISTS, *SHAPE, f"out={out}", "dry_run=true"]) == 0
    return sorted(re.findall(r"^[0-9a-f]{16}\b", capsys.readouterr().out, re.MULTILINE))


def test_a_launcher_without_a_multirun_is_refused(capsys, tmp_path):
    assert sweep.main(["launcher=joblib", f"out={tmp_path}", "dry_run=true"]) == 2
    assert "Add -m" in capsys.readouterr().err


def test_a_launcher_that_is_not_installed_names_its_extra(capsys, tmp_path, monkeypatch):
    (tmp_path / "launcher").mkdir()
    text = (CONF / "launcher" / "ray.yaml").read_text().replace("launcher: ray", "launcher: ray_no")
    (tmp_path / "launcher" / "absent.yaml").write_text(text)
    monkeypatch.setitem(EXTRAS, "ray_no", "ray")
    assert sweep.main(["-m", "launcher=absent", "--config-dir", str(tmp_path)]) == 2
    assert "pip install 'attnbench[ray]'" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["joblib", "submitit_local"])
def test_launched_jobs_measure_the_cells_of_the_plain_list_each_once(launcher, tmp_path, capsys):
    pytest.importorskip({"joblib": "joblib"}.get(launcher, "submitit"))
    out = tmp_path / "out"
    process = start(out, "-m", f"launcher={launcher}", *JOBS)
    printed, _ = process.communicate(timeout=600)
    assert process.returncode == 0, printed
    assert keys(out) == planned(out, capsys) and len(keys(out)) == 6
    assert "All 4 jobs:" in printed


@pytest.mark.slow
def test_a_job_with_bad_words_gives_its_exit_code_to_who_launched_it(tmp_path):
    pytest.importorskip("submitit")
    process = start(tmp_path / "out", "-m", "launcher=submitit_local", "seq_len=32,-1", "task=[]")
    process.communicate(timeout=600)
    assert process.returncode == 2


@pytest.mark.slow
def test_a_slurm_cluster_finishes_a_multirun_though_a_node_dies_in_the_middle(tmp_path, capsys):
    pytest.importorskip("submitit")
    if reason := slurm_cluster.why_not():
        pytest.skip(reason)
    out = tmp_path / "out"
    with slurm_cluster.loopback_cluster(tmp_path) as cluster:
        process = start(out, "-m", "launcher=slurm", *JOBS, **cluster.environment)

        def is_at_work():
            assert process.poll() is None, process.communicate()[0]
            busy = cluster.ask("squeue", "-h", "-t", "R", "-o", "%N").split()
            return "n2" in busy and any(out.glob("claims/*"))

        slurm_cluster.wait_until(is_at_work, "the job on n2", tmp_path, 300)
        cluster.kill("n2")
        printed, _ = process.communicate(timeout=600)
        jobs = cluster.ask("scontrol", "-o", "show", "jobs")
    assert process.returncode == 0, printed
    assert keys(out) == planned(out, capsys)
    assert " NodeList=n1" in jobs and "Restarts=1" in jobs, jobs
