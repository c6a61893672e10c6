"""Conversions on tiny models: what is kept, what is matched, what the store and the page say."""

import re
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from bench.convert import main
from bench.core.lines import Lines
from bench.publishing.document import Table
from bench.studies.convert import study
from bench.studies.convert.models import looks, num_layers_of
from bench.studies.convert.page import Ablated, Curve, document_of, write_page
from tests.records import task_records

TINY = (
    *("seed=0", "num_layers=2", "match_steps=2", "distil_steps=2", "tune_steps=2"),
    "learning_rates=0.006",
    *("task.recall_causal.num_steps=4", "task.recall_causal.num_test_examples=64"),
    *("task.recall_causal.embed_dim=16", "task.recall_causal.num_heads=2"),
    *("task.recall_causal.batch_size=8", "task.recall_causal.seq_len=32"),
)


def convert(out, *words):
    """The curves that a run leaves behind."""
    assert main([*TINY, f"out={out}", *words]) == 0
    return Lines[Curve](out / "curves.jsonl", Curve).read()


def test_it_keeps_curves_and_the_same_command_trains_nothing_again(tmp_path):
    words = ("attention=[linear]", "keep=[0,0.5]")
    curves = convert(tmp_path, *words)
    assert [curve.keep for curve in curves] == [0.0, 0.5]
    assert all(curve.steps == (0, 1, 2, 3, 4, 5, 6) for curve in curves)
    assert all(len(c.converted) == len(c.scratch) == len(c.steps) for c in curves)
    page = (tmp_path / "conversion.md").read_text()
    assert "    attnbench convert 'attention=[linear]'" in page
    assert "| linear    |" in page and "2 conversions" in page
    assert "without mixer 2 %" in page and "teachers without one of their mixers" in page
    (made, picture, *_) = write_page(tmp_path, tmp_path / "docs" / "conversion.md", "COMMAND")
    assert "    COMMAND" in made.read_text() and picture.suffix == ".svg"
    before = (tmp_path / "curves.jsonl").read_bytes()
    convert(tmp_path, *words)
    assert (tmp_path / "curves.jsonl").read_bytes() == before
    assert (tmp_path / "conversion.md").read_text() == page


def test_a_model_is_scored_after_each_phase_whatever_its_length():
    assert looks((60, 60, 60)) == (0, 30, 60, 90, 120, 150, 180)
    assert looks((50, 100, 0)) == (0, 25, 50, 75, 100, 125, 150)
    assert {7, 20, 24} <= set(looks((7, 13, 4)))


def test_softmax_in_softmaxs_place_is_the_teacher(tmp_path):
    (curve,) = convert(tmp_path, "attention=[softmax]", "keep=0")
    assert curve.converted[0] == curve.teacher
    assert curve.scratch[0] != curve.converted[0]


def test_no_time_no_model_but_what_is_kept_stays(tmp_path, capsys):
    convert(tmp_path, "attention=[linear]", "keep=0")
    assert len(convert(tmp_path, "attention=[linear]", "keep=[0,0.5]", "budget=1s")) == 1
    assert "1 of 2 conversions are not in the store." in capsys.readouterr().out


def curve(**changes):
    """A curve of two looks, half recovered unless said otherwise."""
    about: dict[str, Any] = {
        name: "" for name in ("key", "task", "attention", "unit", "source", "origin")
    }
    about |= {"keep": 0.0, "seed": 0, "phases": (1, 1, 1), "train_s": 30.0, "chance": 0.0}
    about |= {"steps": (0, 3), "teacher": 1.0, "converted": (0.1, 0.8), "scratch": (0.1, 0.6)}
    about |= {"rates": (0.01, 0.003), "mark": ""}
    return Curve(**about | changes)


def test_recovered_is_empty_where_there_is_nothing_to_recover():
    assert curve().recovered(-1) == pytest.approx(0.5)
    assert curve(scratch=(0.1, 0.99)).recovered(-1) is None
    # A lead of 4 points is 8 % of what can be learned where half is right by luck.
    assert curve(scratch=(0.5, 0.96), converted=(0.5, 0.98)).recovered(-1) is None
    lucky = curve(chance=0.5, scratch=(0.5, 0.96), converted=(0.5, 0.98))
    assert lucky.recovered(-1) == pytest.approx(0.5)
    fewer_bits = {"teacher": 2.0, "chance": 5.0, "unit": "bits per byte"}
    found = curve(scratch=(5.0, 4.0), converted=(5.0, 2.5), **fewer_bits)
    assert found.recovered(-1) == pytest.approx(0.75)


def test_two_seeds_settle_nothing_and_what_was_not_run_is_listed(tmp_path):
    lines = Lines[Curve](tmp_path / "curves.jsonl", Curve)
    for seed, gain in enumerate((0.0, 0.004, 0.002)):
        lines.append(curve(attention="gla", seed=seed, converted=(0.1, 0.8 + gain)))
        lines.append(curve(attention="nala", seed=seed, converted=(0.1, 0.3 - gain)))
        if seed < 2:
            lines.append(curve(attention="linear", seed=seed, converted=(0.1, 0.9 + gain)))
    page = write_page(tmp_path, tmp_path / "page.md", "COMMAND", notes=["A note."])[0].read_text()
    verdicts = re.findall(r"^\| (\w+) .*\| (better|worse|undecided) +\|", page, re.M)
    assert verdicts == [("gla", "better"), ("linear", "undecided"), ("nala", "worse")]
    assert "linear with 0 % kept, seed 2." in page and "A note." in page
    assert "in 4.0 core-minutes" in page


def test_of_bits_fewer_are_better_and_a_mark_or_a_missing_share_settles_nothing():
    bits = {"unit": "bits per byte", "teacher": 2.0, "chance": 8.0}
    bits |= {"steps": (0, 1, 3), "phases": (1, 2, 0)}
    curves = [
        curve(attention=name, seed=seed, converted=(8, 3, end + seed / 1000), **bits | changes)
        for seed in (0, 1, 2)
        for name, end, changes in (
            ("gla", 2.2, {"scratch": (8.0, 7.0, 3.0)}),
            ("marked", 2.2, {"scratch": (8.0, 7.0, 3.0), "mark": "rate at the edge"}),
            # One control is as good as the teacher, so that its seed has nothing to recover.
            ("nala", 3.5, {"scratch": (8.0, 7.0, 3.0 if seed else 2.0)}),
        )
    ]
    (table, *_) = (b for b in document_of(curves, (), "", ()).blocks if isinstance(b, Table))
    shown = {row[0]: dict(zip(table.header, row, strict=True)) for row in table.texts()}
    assert {name: row["against scratch"] for name, row in shown.items()} == {
        **{"gla": "better", "marked": "undecided", "nala": "undecided"}
    }
    gla = shown["gla"]
    assert gla["after matching bits per byte"] == "3.00 (3.00 to 3.00)"
    assert gla["converted bits per byte"] == "2.20 (2.20 to 2.20)"
    assert gla["recovered % ↑"].startswith("80 ") and shown["nala"]["recovered % ↑"] == ""


def test_curves_of_other_phases_or_of_another_model_share_no_table_and_the_newest_counts(
    tmp_path,
):
    lines = Lines[Curve](tmp_path / "curves.jsonl", Curve)
    for seed in (0, 1, 2):
        about = {"task": "recall", "attention": "gla", "seed": seed, "source": "ours"}
        for change in (
            {"converted": (0.1, 0.2)},  # replaced by the next
            {"converted": (0.1, 0.8 + seed / 1000)},
            {"phases": (0, 1, 2), "converted": (0.1, 0.3 + seed / 1000)},
            {"source": "yours", "steps": (0, 1, 3), "converted": (0, 0.5, 0.6)}
            | {"scratch": (0, 0.5, 0.6)},
        ):
            lines.append(curve(**about | change))
    files = write_page(tmp_path, tmp_path / "page.md", "COMMAND")
    page = files[0].read_text()
    found = re.findall(r"^\| gla .*\| (better|worse|undecided) +\| +(\d) \|", page, re.M)
    assert found == [("better", "3"), ("worse", "3"), ("undecided", "3")]
    titles = re.findall(r"^\*\*recall, (.*), after 3 steps\*\*$", page, re.M)
    assert titles == [
        *("1 + 1 + 1 steps of ours", "0 + 1 + 2 steps of ours", "1 + 1 + 1 steps of yours"),
    ]
    assert "9 conversions of ours and yours" in page and len(files) == len({*files})


def test_a_mechanism_has_one_row_where_no_kept_layer_matters():
    curves = [
        curve(attention=name, keep=keep, seed=seed, converted=(0.1, 0.8 + keep / 10))
        for name in ("gla", "linear")
        for keep in (0.0, 0.5)
        for seed in (0, 1, 2)
    ]
    for without, count in (((0.1, 1.0), 2), ((1.0, 0.1), 4)):  # the second layer is the kept one
        teacher = Ablated(key="", task="", seed=0, score=1.0, without=without)
        document = document_of(curves, [teacher], "", ())
        table = next(block for block in document.blocks if isinstance(block, Table))
        assert len(table.rows) == count
        merged = "converted (50 % kept) %"
        assert (merged in table.header) == (count == 2)
    shown = dict(zip(table.header, table.texts()[0], strict=True))
    assert shown["kept softmax %"] == "0"


def made_up(run, *_):
    """The curve of a run that was never trained."""
    work = run.scratch.task
    assert run.teacher.task.seed == work.seed  # each seed has a teacher of its own
    about = {"key": run.key, "attention": run.scratch.entry, "keep": run.keep}
    return curve(task=work.label, seed=work.seed, **about)


def test_a_share_is_that_of_whole_layers(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(study, "_convert", made_up)
    monkeypatch.setattr(study, "_ablated", lambda *_: [])
    curves = convert(tmp_path, "attention=[linear]", "num_layers=3", "keep=[0,0.1,0.25,0.33,0.5]")
    assert [c.keep for c in curves] == [0, 1 / 3, 2 / 3]
    said = " ".join(capsys.readouterr().out.split())
    for keep, words in (("0.1", "0 of them (0 %)"), ("0.25", "1 of them (33 %)")):
        assert f"keep={keep} is not a whole number of 3 layers: {words} stay softmax." in said
    assert "keep=0.33 is" not in said
    assert "2 of them (67 %)" in (tmp_path / "conversion.md").read_text()


def test_another_rate_or_another_search_is_another_conversion(tmp_path, monkeypatch):
    monkeypatch.setattr(study, "_convert", made_up)
    monkeypatch.setattr(study, "_ablated", lambda *_: [])
    for share, rates, count in ((0.3, "0.006", 1), (0.5, "0.006", 2), (0.5, "[0.006,0.01]", 3)):
        words = ("attention=[linear]", "keep=0", f"rate_share={share}", f"learning_rates={rates}")
        assert convert(tmp_path, *words) == convert(tmp_path, *words)
        assert len(convert(tmp_path, *words)) == count


class Summed(nn.Module):
    """A model whose output is the sum of what its mixers give."""

    def __init__(self, *values):
        super().__init__()
        self.values = values
        self.mixers = nn.ModuleList(nn.Identity() for _ in values)

    def score(self):
        parts = zip(self.mixers, self.values, strict=True)
        return float(sum(mixer(torch.tensor(value)) for mixer, value in parts))


def test_a_teacher_is_scored_without_each_of_its_mixers_and_only_once(tmp_path, monkeypatch):
    monkeypatch.setattr(study, "score_on_test_set", lambda model, *_: model.score())
    teachers = [Summed(1.0, 2.0, 4.0)]
    session: Any = SimpleNamespace(trained=lambda *_: teachers.pop())
    (record,) = task_records(["softmax"], seeds=[0])
    for _ in range(2):
        (found,) = study._ablated([record.cell], tmp_path, session)
        assert (found.score, found.without) == (7.0, (6.0, 5.0, 3.0))


@pytest.mark.parametrize(
    ("content", "num_layers"),
    [
        ('{"num_hidden_layers": 12}', 12),
        ('{"n_layer": 6}', 6),
        ('{"architecture": "vit", "model_args": {"depth": 2}}', 2),
        ('{"architecture": "vit", "model_args": null}', None),
        ("no json", None),
        (None, None),
    ],
)
def test_a_model_of_yours_has_the_layers_that_its_config_says(tmp_path, content, num_layers):
    if content is not None:
        (tmp_path / "config.json").write_text(content)
    assert num_layers_of(tmp_path) == num_layers


def test_a_language_model_of_transformers_by_path(tmp_path, exits):
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=64,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=32,
    )
    transformers.AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path / "llama")
    own = f"teacher={tmp_path / 'llama'}"
    curves = convert(tmp_path / "out", own, "attention=[softmax,linear]", "keep=[0.5]")
    same, linear = curves
    assert same.converted[0] == pytest.approx(same.teacher, abs=1e-6)
    assert linear.converted[0] != linear.scratch[0]
    said = exits(2, main([*TINY, own, f"out={tmp_path}", "attention=[gla]"]))
    assert "needs log_decay for every token" in said


def test_an_image_model_of_timm_by_path(tmp_path):
    timm, images = pytest.importorskip("timm"), pytest.importorskip("PIL.Image")
    made = {"img_size": 8, "patch_size": 4, "embed_dim": 16, "depth": 2}
    made |= {"num_heads": 2, "num_classes": 2}
    torch.manual_seed(0)
    model = timm.create_model("vit_tiny_patch16_224", **made)
    timm.models.save_for_hf(model, tmp_path / "vit", model_args=made, safe_serialization=True)
    photos, draw = tmp_path / "photos", np.random.default_rng(0)
    for place in ("train/a", "train/b", "test/a", "test/b"):
        (photos / place).mkdir(parents=True)
        for i in range(24):
            pixels = draw.integers(0, 256, (8, 8, 3), dtype=np.uint8)
            images.fromarray(pixels).save(photos / place / f"{i}.png")
    own = {"root": photos, "image_size": 8, "num_steps": 4, "batch_size": 8}
    words = [f"task.image_folder.{key}={value}" for key, value in own.items()]
    out = tmp_path / "out"
    words += [f"teacher={tmp_path / 'vit'}", "task=[image_folder]", "attention=[linear]"]
    assert main([*TINY[:6], f"out={out}", "keep=0.5", *words]) == 0
    (curve,) = Lines[Curve](out / "curves.jsonl", Curve).read()
    assert 0 <= curve.converted[-1] <= 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("keep=0.9",), "keep=0.9 of 2 layers leaves none to exchange."),
        (("teacher=nowhere",), "teacher=nowhere holds no model."),
        (("match_steps=0", "distil_steps=0", "tune_steps=0"), "All phases have 0 steps."),
        (("attention=[softmux]",), "softmux"),
    ],
)
def test_a_wrong_setting_is_a_sentence_and_exit_code_2(tmp_path, exits, words, message):
    assert message in exits(2, main([*TINY[:2], *TINY[6:], f"out={tmp_path}", *words]))
