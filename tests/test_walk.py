"""End to end, from the command line to a leaderboard row, on a CPU and without a network."""

import contextlib
import csv
import functools
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bench import report, sweep

ROOT = Path(__file__).resolve().parent.parent
TINY = ["seq_len=[32,48]", "num_heads=2", "head_dim=8", "measure.budget_s=0.02"]


@contextlib.contextmanager
def _as_if_alone(folder, wandb):
    with pytest.MonkeyPatch.context() as patch, contextlib.chdir(folder):
        patch.setenv("WANDB_MODE", wandb)
        patch.setenv("COLUMNS", "120")
        patch.setenv("PYTHONPATH", str(ROOT))
        patch.setenv("ATTNBENCH_SWEEP", "")
        patch.delenv("ATTNBENCH_SWEEP")
        yield


def attnbench(*words, cwd, command=sweep, wandb="disabled"):
    """Call a command from this process; returns what it printed.

    W&B takes seconds, and is off unless a test needs it.
    """
    out, err = io.StringIO(), io.StringIO()
    with (
        _as_if_alone(cwd, wandb),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        code = command.main(list(words))
    assert code == 0, out.getvalue() + err.getvalue()
    return out.getvalue()


@pytest.fixture
def here(tmp_path):
    """`here(words, cwd)`: a command, called from this process; what it printed."""
    return functools.partial(attnbench, cwd=tmp_path)


def records(out):
    files = sorted(Path(out, "records").glob("*.jsonl"))
    return [json.loads(line) for file in files for line in file.read_text().splitlines()]


def keys(out):
    return sorted(record["key"] for record in records(out))


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    """One sweep with everything in it, shared by several tests."""
    folder = tmp_path_factory.mktemp("walk")
    printed = attnbench(
        "attention=[softmax,linear,none,nala_layer]",
        "task=[recall]",
        "task.recall.num_steps=2",
        "task.recall.num_test_examples=64",
        *TINY,
        f"out={folder / 'here'}",  # workers, which are shared, have another current folder
        cwd=folder,
        wandb="offline",
    )
    return folder, printed


def test_every_planned_cell_ends_as_exactly_one_record(first):
    folder, _ = first
    found = records(folder / "here")
    assert len(found) == 4 * 2 + 4
    assert len({r["key"] for r in found}) == len(found)
    layer = [r for r in found if r["entry"] == "nala_layer" and r["cell"]["kind"] == "kernel"]
    assert {r["status"] for r in layer} == {"skipped"} and "layer" in layer[0]["reason"]
    assert all(r["status"] == "ok" for r in found if r not in layer)


def test_the_table_has_one_row_per_record_with_flat_names(first):
    folder, _ = first
    with (folder / "here" / "table.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(records(folder / "here"))
    row = next(r for r in rows if r["entry"] == "linear" and r["seq_len"] == "32")
    assert row["dtype"] == "float32" and row["status"] == "ok"
    assert float(row["speedup_over_softmax_low"]) <= float(row["speedup_over_softmax"])
    assert float(row["latency_s"]) > 0 and float(row["peak_memory_bytes"]) > 0
    task = next(r for r in rows if r["task"] == "recall" and r["entry"] == "linear")
    assert 0 <= float(task["accuracy"]) <= 1 and task["seed"] == "0"


def test_the_terminal_shows_the_leaderboard_then_what_is_not_ok_and_the_harness_cost(first):
    _, printed = first
    assert "linear" in printed and "nala owns" not in printed
    assert "it runs at scope layer only" in printed.replace("\n", " ")
    assert "the harness took" in printed


def test_markdown_charts_and_an_offline_run_lie_under_out(first):
    folder, _ = first
    assert "linear" in (folder / "here" / "leaderboard.md").read_text()
    assert list((folder / "here").rglob("*.vl.json"))
    assert list((folder / "here").rglob("run-*.wandb"))
    assert sorted(path.name for path in folder.iterdir()) == ["here"]


def test_a_second_run_measures_nothing_and_force_measures_anew(first, here):
    folder, _ = first
    words = ["attention=[softmax,linear]", "task=[]", *TINY, "out=here", "charts=false"]
    before = len(records(folder / "here"))
    assert "measured now: nothing" in here(*words, cwd=folder)
    assert len(records(folder / "here")) == before
    here(*words, "force=true", cwd=folder)
    assert len(records(folder / "here")) == before + 4


def test_a_dry_run_prints_the_plan_and_leaves_nothing(tmp_path, here):
    printed = here("attention=[softmax]", "task=[]", *TINY, "dry_run=true")
    assert printed.count("softmax seq_len=") == 2
    assert "Estimated duration" in printed and "2 to measure" in printed
    assert list(tmp_path.iterdir()) == []
    elsewhere = here("attention=[softmax]", "task=[]", *TINY, "dry_run=true", "device=cuda:7")
    assert "cuda:7" in elsewhere and "2 to measure" in elsewhere


def test_padded_and_ragged_batches_are_timed_beside_softmax_under_the_same_mask(tmp_path, here):
    printed = here(
        "attention=[linear,cosformer]",
        "task=[]",
        *TINY[1:],
        "seq_len=32",
        "batch_size=3",
        "padding=[0,0.25]",
        "ragged=[0,0.5]",
        "out=here",
        "charts=false",
    )
    found = records(tmp_path / "here")
    linear = [r for r in found if r["entry"] == "linear"]
    assert [r["status"] for r in linear] == ["ok"] * 3
    assert all(r["result"]["reference_latency_s"] for r in linear)
    tokens = {(r["cell"]["padding"], r["cell"]["ragged"]): r["result"] for r in linear}
    assert {shape: result["tokens_per_call"] for shape, result in tokens.items()} == {
        (0, 0): 96,
        (0.25, 0): 96,
        (0, 0.5): 32 + 24 + 16,
    }
    assert tokens[0, 0.5]["flops"] < tokens[0.25, 0]["flops"] < tokens[0, 0]["flops"]
    skipped = {r["reason"] for r in found if r["status"] == "skipped"}
    assert skipped == {"cosformer takes no mask over keys."}
    assert "Not planned, 1 shape: padding and ragged both say" in printed.replace("\n", " ")


def test_multirun_gives_the_same_cells_with_the_same_keys_into_the_same_store(tmp_path, here):
    printed = here(
        "-m",
        "attention=softmax,linear",
        "seq_len=32",
        "task=[]",
        *TINY[1:],
        "out=many",
        "charts=false",
    )
    table = printed.partition("All 2 jobs:")[2]
    assert table.count("speed-up over softmax") == table.count("seq_len 32") == 1
    assert "linear" in table and "softmax" in table and "2 cells: 2 ok" in table
    assert len(set(keys(tmp_path / "many"))) == len(keys(tmp_path / "many")) == 2
    assert all(r["result"]["reference_latency_s"] for r in records(tmp_path / "many"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["many"]
    words = ["attention=[softmax,linear]", "seq_len=[32]", "task=[]", *TINY[1:], "out=many"]
    one = here(*words, "dry_run=true")
    assert all(f"{key}  " in one for key in keys(tmp_path / "many"))
    assert "2 cells: 0 to measure, 0 unsupported, 2 measured here already" in one.replace("\n", " ")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["attention.performer.num_featurs=1"], "num_features"),
        (["out=/dev/null/x"], "/dev/null"),
        (["out=[a,b]"], "out"),
    ],
)
def test_bad_input_ends_with_2_and_a_sentence_and_leaves_nothing(
    tmp_path, monkeypatch, capsys, words, said
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ATTNBENCH_SWEEP", "here")
    assert sweep.main(words) == 2
    out, err = capsys.readouterr()
    assert said in err and "Traceback" not in err + out
    assert list(tmp_path.iterdir()) == []


def test_ctrl_c_keeps_what_is_done_writes_the_tables_and_goes_on_later(tmp_path, here):
    words = ["attention=[linear]", "task=[]", "seq_len=[32,1024]", "num_heads=2", "out=x"]
    words += ["charts=false"]
    slow = ["measure.budget_s=60", "measure.target_half_width=0", "measure.max_rounds=100000"]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "WANDB_MODE": "disabled"}
    running = subprocess.Popen(
        [sys.executable, "-m", "bench.sweep", *words, *slow, "measure.min_rounds=1"],
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    for line in running.stdout:
        if "timing 1 at seq_len=32" in line:
            break
    time.sleep(2)  # some rounds also on a busy machine, of those that would take a minute
    os.killpg(running.pid, signal.SIGINT)
    output, _ = running.communicate(timeout=60)
    assert running.returncode == 130, output
    assert "The same command goes on from here" in output
    assert len(records(tmp_path / "x")) == 1
    assert (tmp_path / "x" / "table.csv").exists()
    rest = here(*words, "measure.budget_s=0.02", "dry_run=true")
    assert "1 to measure, 0 unsupported, 1 measured here already" in rest.replace("\n", " ")


def test_the_report_can_be_made_again_from_the_records_alone(first, tmp_path, here):
    folder, _ = first
    shutil.copytree(folder / "here" / "records", tmp_path / "copy" / "records")
    here("out=copy", "charts=false", command=report)
    assert (tmp_path / "copy" / "leaderboard.md").exists()
    assert (tmp_path / "copy" / "table.csv").exists()
