"""The command: what it refuses, what it compares, how it ends; on real commits at the end."""

import json
import re
import signal
from contextlib import nullcontext

import pytest

from bench.measuring.worker.jobs import Interrupted
from bench.regress import main
from bench.studies.gate import commits as trees
from bench.studies.gate.rows import GateRow, GateVerdict
from tests.bench.studies.gate.scratch import DEATH, WASTE, Checkout, tiny
from tests.records import block_records


@pytest.fixture(autouse=True)
def outside_of_github(monkeypatch):
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)


def write_records(out, records, name="one"):
    folder = out / "records"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.jsonl").write_text("".join(r.to_json() + "\n" for r in records))
    return out


@pytest.fixture
def sweep(tmp_path):
    return write_records(tmp_path / "sweep", block_records(["softmax", "linear", "nala"]))


# Stored numbers, through the command line


def test_stored_numbers_against_themselves_exit_0_and_leave_every_form(sweep, tmp_path, capsys):
    out = tmp_path / "out"
    assert main([f"baseline={sweep}", f"current={sweep}", f"out={out}"]) == 0
    assert {file.name for file in out.iterdir()} == {"regress.json", "regress.md"}
    assert "No regression" in capsys.readouterr().out
    rows = json.loads((out / "regress.json").read_text())
    assert {row["verdict"] for row in rows} == {"SAME", "incomparable"}


def test_the_other_side_is_what_was_measured_here_unless_it_is_named(sweep, tmp_path, exits):
    here = write_records(tmp_path / "here", block_records(["softmax", "linear", "nala"], seed=1))
    assert str(here) in exits(0, main([f"baseline={sweep}", f"out={here}"])).replace("\n", "")


def undigested(sweep):
    """Its lines as they may be changed: without what says that they were."""
    return re.sub(r',"digest":"\w+"', "", (sweep / "records" / "one.jsonl").read_text())


def test_growths_exit_1_name_their_cells_and_can_be_accepted_for_good(
    sweep, tmp_path, capsys, exits
):
    lines = undigested(sweep).replace('"num_operators":12', '"num_operators":13', 2)
    (tmp_path / "grown").mkdir()
    (tmp_path / "grown" / "r.jsonl").write_text(lines)
    words = [f"baseline={sweep}", f"current={tmp_path / 'grown'}", f"out={tmp_path}"]
    assert main(words) == 1
    assert "Regression in linear, softmax." in capsys.readouterr().out
    assert main([*words, "accept=[linear/flops: for nothing]"]) == 1
    assert "accept=linear/flops matches no growth" in capsys.readouterr().out
    for code, entry in ((1, "softmax"), (0, "linear")):  # the second leaves the first accepted
        assert main([*words, f"accept=['{entry}/num_operators: one mask more']"]) == code
        assert "Newly accepted numbers: 1" in capsys.readouterr().out.replace("\n", " ")
    assert "ACCEPTED" in exits(0, main(words))


def test_a_note_says_that_torch_differs(sweep, tmp_path, exits):
    text = undigested(sweep)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "r.jsonl").write_text(text.replace("2.13.0", "2.14.0"))
    said = exits(0, main([f"baseline={sweep}", f"current={tmp_path / 'other'}", f"out={tmp_path}"]))
    assert "torch differs (2.13.0 against 2.14.0)" in said


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["baseline=/nowhere/at/all"], "baseline=/nowhere/at/all is not there"),
        (["base=no-such-ref"], "base=no-such-ref is not a commit"),
        (["threshold=2"], "threshold is 2"),
        (["treshold=0.1"], "Did you mean"),
        (["base=HEAD", "baseline=x"], "choose one"),
        (["base=HEAD", "accept=['nobody/flops: x']", "seq_len=[64]"], "which is not compared"),
    ],
)
def test_bad_input_exits_2_with_a_sentence(tmp_path, exits, words, message):
    said = exits(2, main([*words, f"out={tmp_path}"]))
    assert said.startswith("ConfigError: ") and message in said


# Real commits, in a checkout of this tree


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    return Checkout(tmp_path_factory.mktemp("scratch") / "checkout")


@pytest.fixture(autouse=True)
def nothing_is_left_behind(request):
    yield
    if "checkout" in request.fixturenames:
        made = request.getfixturevalue("checkout")
        assert len(made.worktrees()) == 1 and made.leftovers() == []


def rows_of(checkout):
    return json.loads((checkout.folder / "results" / "regress.json").read_text())


def failed(checkout):
    verdicts = ("SLOWER", "MORE", "BROKEN")
    return {row["entry"] for row in rows_of(checkout) if row["verdict"] in verdicts}


LINEAR = "attentions/mechanisms/linear.py"
ONE = tiny(attention="[linear]")


def test_ctrl_c_after_a_cell_says_how_many_were_compared(tmp_path, monkeypatch, capsys):
    def one_and_stopped(cells, *_):
        yield GateRow.of(cells[0], "latency", GateVerdict.NEW, reason="the base has no such entry")
        raise Interrupted

    monkeypatch.setattr("bench.studies.gate.command.compare_commits", one_and_stopped)
    monkeypatch.setattr(trees, "worktree", lambda commit: nullcontext())
    words = tiny(attention="[linear,softmax]", out=str(tmp_path))
    assert main(["base=HEAD", *words]) == 130
    assert "Stopped after 1 of 2 cells" in capsys.readouterr().out
    (row,) = json.loads((tmp_path / "regress.json").read_text())
    assert row["entry"] == "linear"


@pytest.mark.slow
def test_ctrl_c_keeps_what_was_compared_and_no_worktree(checkout):
    cells = tiny(attention="[linear,softmax]", budget_s="0", threshold="1")
    process = checkout.start("base=HEAD", *cells)
    for line in process.stdout:
        if "[2/2" in line:
            break
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "Stopped after 1 of 2 cells" in out and "Traceback" not in err
    assert {row["entry"] for row in rows_of(checkout)} == {"linear"}
    assert len(checkout.worktrees()) == 1 and checkout.leftovers() == []


@pytest.mark.slow
def test_a_base_that_does_not_import_is_incomparable_with_the_reason(checkout):
    with checkout.branch("no-import"):
        file = checkout.folder / "attentions" / "base.py"
        file.write_text(file.read_text() + "\nimport no_such_thing\n")
        checkout.commit("does not import")
    done = checkout.regress("base=no-import", *ONE)
    assert done.returncode == 0, done.stderr
    (row,) = rows_of(checkout)
    assert row["verdict"] == "incomparable" and "no_such_thing" in row["reason"]


@pytest.mark.slow
def test_a_tree_is_not_slower_than_itself_until_it_has_uncommitted_changes(checkout):
    done = checkout.regress("base=HEAD", *ONE)
    assert done.returncode == 0, done.stderr
    assert {row["channel"] for row in rows_of(checkout)} >= {"latency", "flops", "num_operators"}
    with checkout.branch("dirty"):
        checkout.patch(LINEAR, WASTE)
        done = checkout.regress("base=HEAD", *ONE)
        assert "with uncommitted changes against" in done.stdout
        assert done.returncode == 1 and failed(checkout) == {"linear"}  # one operator more


@pytest.mark.slow
def test_a_repeated_product_in_one_mechanism_fails_and_names_it_alone(checkout):
    words = tiny(seq_len="[256]", num_heads="4", head_dim="64", budget_s="10")
    with checkout.branch("slow"):
        checkout.patch(LINEAR, WASTE)
        checkout.commit("slower")
        done = checkout.regress(*words)  # against the commit before
        assert done.returncode == 1, done.stdout + done.stderr
        assert failed(checkout) == {"linear"}
        slow = {row["entry"]: row["low"] for row in rows_of(checkout) if row["verdict"] == "SLOWER"}
        assert slow.keys() == {"linear"} and slow["linear"] > 1.03
        checkout.git("revert", "--no-edit", "HEAD")
        done = checkout.regress("base=main", *words)
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
def test_a_worker_that_dies_while_both_are_timed_is_a_row_with_the_culprit(checkout):
    with checkout.branch("deadly"):
        checkout.patch(LINEAR, DEATH)
        checkout.commit("ends its process")
        done = checkout.regress("base=main", *ONE)
        assert done.returncode == 1, done.stderr
        (time_of_it,) = (row for row in rows_of(checkout) if row["channel"] == "latency")
        assert time_of_it["verdict"] == "BROKEN" and "exit code 7" in time_of_it["reason"]
    done = checkout.regress("base=deadly", *ONE)
    assert done.returncode == 0, done.stderr
    (time_of_it,) = (row for row in rows_of(checkout) if row["channel"] == "latency")
    assert time_of_it["verdict"] == "incomparable" and "exit code 7" in time_of_it["reason"]
