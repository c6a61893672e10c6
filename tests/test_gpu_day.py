"""`make gpu` without a card: its plan, how it resumes, and how it reports unequal launches."""

import subprocess
from types import SimpleNamespace

import pytest

from bench.core.cli.errors import ConfigError
from bench.measuring.device.cuda import Cuda
from tools import gpu


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


@pytest.mark.slow
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
