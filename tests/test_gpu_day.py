"""`make gpu` without a card: its plan, how it resumes, and how it reports unequal launches."""

import json
import subprocess
from types import SimpleNamespace

import pytest

from bench.core.cli.errors import ConfigError
from bench.measuring.device.cuda import Cuda
from tools import gpu


def test_steps_are_short_and_leave_one_file_each():
    assert sum(step.minutes for step in gpu.STEPS) <= 18
    assert all(step.minutes <= 4 for step in gpu.STEPS)
    assert len({step.file for step in gpu.STEPS}) == len(gpu.STEPS)


def test_it_resumes_after_finished_steps_and_a_failed_step_stops_no_other(tmp_path, capsys):
    called = []

    def run(words, timeout, **_):
        called.append((words[2], timeout))
        if words[2] == "pytest":
            raise subprocess.TimeoutExpired(words, timeout)
        return SimpleNamespace(returncode=0)

    (tmp_path / "launches.json").write_text("{}")
    (tmp_path / "launches.done").touch()
    assert gpu.run_steps(tmp_path, run) == 1
    assert called[0] == ("pytest", 120) and len(called) == len(gpu.STEPS) - 1
    said = capsys.readouterr().out
    assert "launches: done before" in said and "tests: ended after 2 minutes" in said


def test_a_step_that_failed_runs_again_though_it_left_its_file(tmp_path):
    called, codes = [], {"pytest": 1}

    def run(words, **_):
        called.append(words[2])
        (file,) = [tmp_path / s.file for s in gpu.STEPS if s.command(tmp_path) == words]
        file.parent.mkdir(exist_ok=True)
        file.touch()
        return SimpleNamespace(returncode=codes.get(words[2], 0))

    assert gpu.run_steps(tmp_path, run) == 1 and len(called) == len(gpu.STEPS)
    for again in (["pytest"], []):
        codes.clear()
        called.clear()
        assert gpu.run_steps(tmp_path, run) == 0
        assert called == again


def answer(**facts):
    launch = {key: 1 for key in gpu.COMPARED} | facts
    return {"entry": "gla_fla", "seq_len": 1024, "launches": [launch]}


def test_launches_that_differ_from_the_list_are_named():
    assert gpu.differences([answer()], [answer(matrix={})]) == []
    refused = [answer(refused="threads", warps=n) for n in (1, 2)]
    assert gpu.differences(refused[:1], refused[1:]) == []  # neither is made
    (said,) = gpu.differences([answer()], [answer(registers=2)])
    assert said == "gla_fla at 1024, 1: registers 1 listed, 2 made"
    assert (
        "1 launches listed, 0 made" in gpu.differences([answer()], [answer() | {"launches": []}])[0]
    )


def test_the_page_says_what_was_unequal(tmp_path):
    folder = tmp_path / "gpu-nvidia-h100"
    (folder / "decode").mkdir(parents=True)
    (folder / "decode/leaderboard.md").write_text("# Board\n\nrows\n")
    said = {"card": {"name": "NVIDIA H100"}, "unequal": ["x: 1 and 2"], "answers": [answer()]}
    (folder / "launches.json").write_text(json.dumps(said))
    page = gpu.page_of(folder)
    assert page.startswith("# nvidia-h100\n") and "- x: 1 and 2" in page and "rows" in page


def test_a_dry_run_rehearses_all_steps_on_a_fake_card(exits, monkeypatch):
    said = exits(0, gpu._main(["dry_run=true"]))
    assert said.startswith("On Fake 9000:") and "Together at most 18 minutes" in said
    sweeps = [step for step in gpu.STEPS if "bench.sweep" in step.words]
    assert said.count("Nothing was measured") == len(sweeps) == 4
    firsts = said.split("First in the budget of ")[1:]
    assert len(firsts) == 4 and all(" cells at seq_len=" in first for first in firsts)
    for name in gpu.SEEDS.split(","):
        timed = [line for line in said.splitlines() if f"  {name} seq_len=4096" in line]
        assert any("causal" not in line for line in timed), name
    monkeypatch.setattr(Cuda, "present", classmethod(lambda kind: ()))
    with pytest.raises(ConfigError, match="sees no CUDA device"):
        gpu._main([])  # and nothing of it is left behind
