"""Parts of `diagnose`: inputs that each is given, rows that it leaves out, and when it stops."""

import json
import signal

import pytest

from bench.measuring.tasks.train import Diverged
from bench.studies.diagnostics import study as studies
from bench.studies.diagnostics.study import Diagnose, study
from bench.studies.session import Session

RECALL = {"recall": {"task": "recall", "vocab_size": 16, "num_test_examples": 16, "embed_dim": 8}}
WHY = "training left the finite numbers at step 3; the loss is nan"


class Found:
    """Calls of the functions that compute numbers; each gives one number of its own."""

    def __init__(self, monkeypatch):
        self.random, self.lengths, self.models, self.swapped, self.trained = [], [], [], [], []
        monkeypatch.setattr(studies, "of_random", self.of_random)
        monkeypatch.setattr(studies, "of_lengths", self.of_lengths)
        monkeypatch.setattr(studies, "of_model", self.of_model)
        monkeypatch.setattr(studies, "swapped_in", self.swapped_in)
        monkeypatch.setattr(studies, "trained_on", lambda cell, model: (cell, model))

    def of_random(self, build, size, norms, token_norms, seed):
        self.random.append((size.causal, norms, token_norms, seed))
        return [("entropy", "", float(seed))]

    def of_lengths(self, build, size, lengths, seed):
        self.lengths.append(lengths)
        return [("error", "bfloat16, 8 tokens", float("nan"))]

    def of_model(self, model, seed, num_examples):
        self.models.append((model[0].entry, model[0].task.seed, seed, num_examples))
        return {0: [("entropy", "", float(seed))], 1: [("entropy", "", 0.5)]}

    def swapped_in(self, source, cell, steps):
        assert source[0].entry == "softmax"
        self.swapped.append((cell.entry, cell.task.seed, source[0].task.seed, steps))
        return [("drop-in regret", "before", 0.0)]

    def train(self, cell, folder):
        self.trained.append((cell.entry, cell.task.seed, folder))


@pytest.fixture
def found(monkeypatch):
    return Found(monkeypatch)


def run(found, out, *labels, **given):
    """Run the study; its lines, and the session."""
    rows = {label: {"mechanism": label} for label in labels}
    composed = {"attention": rows, "task": RECALL, "out": str(out), "rates": {}, "sweep_id": "s"}
    composed |= {"num_seeds": 2, "num_examples": 3} | given
    with Session("diagnose", composed) as session:
        session.trained = found.train
        study(Diagnose.read(composed), session)
    file = out / "diagnostics.jsonl"
    lines = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
    return lines, session


def left_out(lines):
    return {(line["attention"], line["inputs"]): line["why"] for line in lines if "why" in line}


def samples(lines):
    keys = ("attention", "inputs", "measure")
    return {tuple(line[k] for k in keys): line["samples"] for line in lines if "samples" in line}


def test_random_inputs_are_drawn_under_each_seed_at_all_norms_and_lengths(found, tmp_path):
    given = {"norms": [4.0, 0.5], "token_norms": [2.0], "lengths": [8], "num_seeds": 3}
    (origin, *lines), _ = run(found, tmp_path, "softmax", trained=False, **given)
    assert found.random == [(False, (0.5, 4.0), (2.0,), seed) for seed in range(3)]
    assert found.lengths == [(8,)] and found.trained == found.models == []
    assert samples(lines) == {
        ("softmax", "random", "entropy"): [0.0, 1.0, 2.0],
        ("softmax", "random", "error"): [None],
    }
    (said,) = origin["settings"]
    assert "64 tokens, 4 heads of 16 channels" in said and "norms about 4)" in said
    assert said.endswith("seeds 0 to 2.")


@pytest.mark.parametrize("causal", [False, True])
def test_a_row_that_is_causal_only_gets_a_mask_and_says_so_unless_all_do(found, tmp_path, causal):
    _, *lines = run(found, tmp_path, "softmax", "gla", trained=False, causal=causal)[0]
    assert [given[0] for given in found.random] == [causal] * 2 + [True] * 2
    noted = {} if causal else {("gla", "random without a mask"): studies._CAUSAL}
    assert left_out(lines) == noted


def test_models_are_analysed_under_their_seeds_and_trained_once(found, tmp_path):
    given = {"seed": [3, 5], "fine_tune_steps": 7}
    (origin, *lines), session = run(found, tmp_path, "softmax", "linear", **given)
    names, folder = ("softmax", "linear"), tmp_path / "checkpoints"
    assert found.trained == [(name, seed, folder) for name in names for seed in (3, 5)]
    assert found.models == [(name, seed, seed, 3) for name in names for seed in (3, 5)]
    assert found.swapped == [(name, seed, seed, 7) for name in names for seed in (3, 5)]
    assert samples(lines)["linear", "recall, layer 0", "entropy"] == [3.0, 5.0]
    assert samples(lines)["linear", "recall", "drop-in regret"] == [0.0, 0.0]
    assert "recall, seed 3, 5; their own queries and keys on 3 test" in origin["settings"][1]
    assert "up to 7 steps" in origin["settings"][1] and not session.is_stopped


def test_without_steps_of_fine_tuning_nothing_takes_the_place_of_softmax(found, tmp_path, capsys):
    run(found, tmp_path, "linear", fine_tune_steps=0)
    assert found.swapped == [] and found.trained == [("linear", 0, tmp_path / "checkpoints")]
    assert "in softmax's place" not in capsys.readouterr().out


def test_what_a_task_does_not_support_is_left_out_before_it_is_trained(found, tmp_path):
    _, *lines = run(found, tmp_path, "gla")[0]
    why = left_out(lines)
    assert "causal" in why["gla", "recall"]
    assert found.trained == found.models == found.swapped == []


def test_a_model_that_diverges_is_left_out_and_the_others_are_analysed(
    found, tmp_path, monkeypatch, capsys
):
    def diverges(*_):
        raise Diverged(3, float("nan"))

    monkeypatch.setattr(studies, "of_model", diverges)
    _, *lines = run(found, tmp_path, "linear")[0]
    assert left_out(lines) == {("linear", "recall"): WHY}
    assert ("linear", "recall", "drop-in regret") in samples(lines)
    said = capsys.readouterr().out
    assert f"linear, trained: left out: {WHY}" in said
    monkeypatch.setattr(studies, "swapped_in", diverges)
    _, *lines = run(found, tmp_path / "more", "linear")[0]
    assert [line["why"] for line in lines if "why" in line][1:] == [f"in softmax's place: {WHY}"]


@pytest.mark.parametrize("stops", ["softmax", "linear"])
def test_a_stopped_study_publishes_what_it_found_and_says_that_it_is_not_all(
    found, tmp_path, monkeypatch, capsys, stops
):
    labels = iter(("softmax", "linear"))

    def of_random(build, size, norms, token_norms, seed):
        if seed == 0 and next(labels) == stops:
            signal.raise_signal(signal.SIGINT)
        elif stops == "linear":  # as it is stored after a part, should the process die
            assert not (tmp_path / "diagnostics.md").exists()
        return [("entropy", "", 0.5)]

    monkeypatch.setattr(studies, "of_random", of_random)
    lines, session = run(found, tmp_path, "softmax", "linear", trained=False)
    said = capsys.readouterr().out
    assert session.is_stopped
    if stops == "softmax":
        assert lines == [] and "Nothing was found before." in said
        assert not (tmp_path / "diagnostics.md").exists()
    else:
        assert studies._STOPPED in lines[0]["settings"] and len(lines) == 3
        assert studies._STOPPED in (tmp_path / "diagnostics.md").read_text()


def test_the_page_has_settings_findings_and_what_is_left_out(found, tmp_path, capsys):
    run(found, tmp_path, "gla", trained=False)
    page = (tmp_path / "diagnostics.md").read_text()
    assert "seeds 0 to 1." in page
    _, _, after = page.partition("## Left out")
    assert "gla, random without a mask: it is causal only" in after
    wrote = " ".join(capsys.readouterr().out.split())
    names = ("diagnostics.md", "diagnostics.jsonl")
    assert f"Wrote {', '.join(str(tmp_path / name) for name in names)}" in wrote
