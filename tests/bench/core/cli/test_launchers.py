"""Jobs of a multirun, wherever they run: the cells of the plain list, each measured once."""

import json
import os
import re
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from bench import sweep
from tests.bench import slurm_cluster
from tests.waiting import wait_until

ROOT = Path(__file__).resolve().parents[4]
SHAPE = ["num_heads=2", "head_dim=8", "measure.budget_s=0.02", "task.recall.num_steps=2"]
LISTS = ["attention=[softmax,linear]", "seq_len=[32,48]", "task=[recall]"]
JOBS = ["attention=softmax,linear", "seq_len=32,48", "task=recall"]
QUIET = ["charts=false", "wandb.mode=disabled"]


def start(out, *words, shape=SHAPE, **more):
    environment = os.environ | {"PYTHONPATH": str(ROOT), "COLUMNS": "200"} | more
    environment.pop("ATTNBENCH_SWEEP", None)
    line = [sys.executable, "-m", "bench.sweep", *words, *shape, *QUIET, f"out={out}"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.Popen(line, env=environment, cwd=out.parent, **pipes)


def keys(out):
    files = sorted(Path(out, "records").glob("*.jsonl"))
    return sorted(json.loads(line)["key"] for f in files for line in f.read_text().splitlines())


def planned(out, capsys, *lists):
    """Keys of the plain list's cells."""
    assert sweep.main([*(lists or LISTS), *SHAPE, f"out={out}", "dry_run=true"]) == 0
    return sorted(re.findall(r"^[0-9a-f]{16}\b", capsys.readouterr().out, re.MULTILINE))


def test_a_launcher_without_a_multirun_is_refused(exits, tmp_path):
    assert "Add -m" in exits(2, sweep.main(["launcher=joblib", f"out={tmp_path}", "dry_run=true"]))


def test_a_multirun_that_measures_nothing_leaves_nothing_but_what_was_there(tmp_path, capsys):
    words = ["-m", "attention=softmax", "seq_len=32", "task=[]", "dry_run=true"]
    assert sweep.main([*words, f"out={tmp_path / 'new' / 'out'}"]) == 0
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "old" / "hydra" / "another").mkdir(parents=True)
    assert sweep.main([*words, f"out={tmp_path / 'old'}"]) == 0
    assert [p.name for p in (tmp_path / "old" / "hydra").iterdir()] == ["another"]
    assert capsys.readouterr().out.count("Nothing was measured") == 2


@pytest.mark.slow
def test_a_dry_multirun_leaves_a_folder_that_was_there(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    (tmp_path / "jobs").mkdir()
    (tmp_path / "jobs" / "mine.txt").write_text("mine")
    for folder in (tmp_path, tmp_path / "jobs", tmp_path / "new" / ".." / "jobs"):
        assert dry_jobs(tmp_path, "seq_len=32,48", f"hydra.sweep.dir={folder}") == 0
        assert (tmp_path / "mine.txt").exists() and (tmp_path / "jobs" / "mine.txt").exists()
    assert dry_jobs(tmp_path, "seq_len=32,48", f"hydra.sweep.dir={tmp_path / 'a' / 'b'}") == 0
    assert not (tmp_path / "a").exists()


@pytest.mark.slow
def test_only_the_endings_of_a_multiruns_own_jobs_count(tmp_path):
    folder = f"hydra.sweep.dir={tmp_path}"
    assert dry_jobs(tmp_path, "seq_len=32,-1", folder) == 2
    assert dry_jobs(tmp_path, "seq_len=32", folder) == 0


def dry_jobs(tmp_path, *words):
    """Exit code of a multirun that measures nothing."""
    shared = ["-m", "attention=softmax", "task=[]", "dry_run=true", f"out={tmp_path / 'out'}"]
    return sweep.main([*shared, *words])


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
def test_a_multirun_that_is_terminated_leaves_no_process_behind(tmp_path):
    pytest.importorskip("joblib")
    out = tmp_path / "out"
    words = ["-m", "launcher=joblib", "hydra.launcher.n_jobs=2", "attention=softmax,linear"]
    endless = ["seq_len=256", "task=[]", "measure.min_rounds=1000000", "measure.max_rounds=1000000"]
    process = start(out, *words, shape=endless)

    def is_at_work():
        assert process.poll() is None, process.communicate()[0]
        return any(holders(out))

    wait_until(is_at_work, 300)
    below = psutil.Process(process.pid).children(recursive=True)
    process.terminate()
    printed, _ = process.communicate(timeout=120)  # whoever lives holds the pipe
    gone, alive = psutil.wait_procs(below, timeout=60)
    for left in alive:
        left.kill()
    assert gone and not alive and process.returncode == 130, printed


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
    out, seen = tmp_path / "out", Seen()
    with slurm_cluster.loopback_cluster(tmp_path) as cluster:
        # Each job has timings and a training that no other job has.
        jobs = ["attention=" + ",".join(ENTRIES), "seq_len=[32,48]", "task=[recall]"]
        process = start(out, "-m", "launcher=slurm", *jobs, **cluster.environment)

        def is_in_the_middle():
            assert process.poll() is None, process.communicate()[0]
            seen.look(out, cluster)
            return seen.landed(out) == EVERYWHERE and "n2" in seen.at_work

        slurm_cluster.wait_until(is_in_the_middle, "work on both nodes", tmp_path, 300)
        cluster.kill("n2")
        printed, _ = process.communicate(timeout=600)
        jobs = cluster.ask("scontrol", "-o", "show", "jobs")
    assert process.returncode == 0, printed
    assert keys(out) == planned(out, capsys, f"attention=[{','.join(ENTRIES)}]", *LISTS[1:])
    assert " NodeList=n1" in jobs and "Restarts=1" in jobs, jobs
    assert "All 5 jobs:" in printed


RAY_NODES = """
import sys
from ray.cluster_utils import Cluster
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
cluster.add_node(num_cpus=1)
print(cluster.address, flush=True)
sys.stdin.read()
cluster.shutdown()
"""


@pytest.mark.slow
def test_a_ray_cluster_of_two_nodes_measures_the_cells_of_the_plain_list(tmp_path, capsys):
    pytest.importorskip("ray")
    out, nodes = tmp_path / "out", set()
    line = [sys.executable, "-c", RAY_NODES]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    environment = os.environ | {"PYTHONPATH": str(ROOT), "RAY_USAGE_STATS_ENABLED": "0"}
    with subprocess.Popen(line, env=environment, **pipes) as cluster:  # ends with its stdin
        address = cluster.stdout.readline().strip()
        process = start(out, "-m", "launcher=ray", *JOBS, RAY_ADDRESS=address)

        def has_ended():
            for pid in holders(out):
                with suppress(psutil.Error):  # the parent of a job is the daemon of its node
                    nodes.add(psutil.Process(pid).ppid())
            return process.poll() is not None

        slurm_cluster.wait_until(has_ended, "the multirun's end", tmp_path, 300)
        printed = process.stdout.read()
    assert process.returncode == 0, printed
    assert keys(out) == planned(out, capsys)
    assert "All 4 jobs:" in printed and len(nodes) == 2


ENTRIES = ("softmax", "linear", "nala", "flatten", "performer")
EVERYWHERE = {(kind, node) for kind in ("kernel", "task") for node in ("n1", "n2")}


class Seen:
    """On which node each file of records was written, looked up as long as its sweep runs."""

    def __init__(self):
        self.nodes, self.at_work = {}, set()

    def look(self, out, cluster):
        for file in out.glob("records/*.jsonl"):
            pid = int(file.stem.rpartition("-")[2])
            self.nodes[file] = self.nodes.get(file) or cluster.node_of(pid)
        self.at_work = {cluster.node_of(pid) for pid in holders(out)}

    def landed(self, out):
        """Kinds of cells, with the nodes that have records of such."""
        return {
            (json.loads(line)["cell"]["kind"], node)
            for file, node in self.nodes.items()
            for line in file.read_text().splitlines()
        }


def holders(out):
    """Processes that hold leases now."""
    for file in out.glob("claims/[!.]*"):
        with suppress(OSError, ValueError):  # it was released, or is not written yet
            yield json.loads(file.read_text())["pid"]
