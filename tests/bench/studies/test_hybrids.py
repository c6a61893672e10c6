"""Hybrids: pairs of mixers alone and beside softmax layers, and the page that counts them."""

import re
from contextlib import nullcontext
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from bench.hybrids import main
from bench.studies import hybrids
from bench.studies.hybrids import board_of, charts, mixed, orders, write_page
from tests import records as made

ALONE = {"gla": (0.9, 0.91, 0.9), "linear": (0.5, 0.51, 0.5), "retnet": (0.5, 0.5, 0.51)}
BESIDE = {"gla": (0.5, 0.51, 0.5), "linear": (0.9, 0.91, 0.9), "retnet": (0.5, 0.5, 0.51)}


def trained(scores, count, rate=0.003, **settings):
    """Models of four layers, with so many of softmax; a seed for each score."""
    settings |= {"num_layers": 4, "softmax_layers": count, "learning_rate": rate}
    label = f"recall softmax_layers={count}" if count else "recall"
    records = []
    for entry, own in scores.items():
        for record, score in zip(made.task_records([entry]), own, strict=True):
            record = made.with_work(record, settings=settings, label=label)
            validated = {"validation": (score,), "validation_steps": (600,)}
            records.append(made.changed(record, accuracy=score, **validated))
    return records


def test_orders_alone_and_beside_softmax_are_the_same_or_reversed():
    softmax, control = {"softmax": (1.0, 1.0, 1.0)}, {"uniform": (0.1, 0.11, 0.1)}
    worse = trained({"gla": (0.2, 0.2, 0.2)}, 0, rate=0.1)
    alone, beside = trained(ALONE | softmax | control, 0), trained(BESIDE | control, 1)
    (task,) = mixed(board_of([*alone, *worse, *beside]))
    (found,) = orders(task)
    assert found.both(1) == []
    assert found.both(-1) == [("gla", "linear")]
    counts = found.row()
    assert [counts[key] for key in ("pairs", "alone", "hybrid")] == [3, 2, 2]
    assert [count for count, score in task.rows() if score.entry == "softmax"] == [4]


def test_of_bits_the_fewer_are_ahead(tmp_path):
    records = [*trained(ALONE, 0), *trained(BESIDE, 1)]
    in_bits = [made.changed(record, unit="bits per byte") for record in records]
    ((found,),) = (orders(task) for task in mixed(board_of(in_bits)))
    assert (found.alone["gla", "linear"], found.hybrid["gla", "linear"]) == (-1, 1)
    (chart,) = charts(board_of(in_bits))
    assert "Accuracy" not in str(chart.spec) and "bits per byte" in str(chart.spec)
    assert all(point["y"] < 1 for point in chart.spec["datasets"]["corners"])
    made.stored(tmp_path, *in_bits, name="sweep")
    page = write_page(tmp_path, tmp_path / "hybrids.md", "COMMAND")[0].read_text()
    assert re.search(r"\| mixer .*\| +bits per byte", page)


def test_tasks_of_other_settings_are_apart_and_what_was_not_trained_alone_has_no_order():
    two = [r for n in (600, 700) for r in trained(ALONE, 0, num_steps=n)]
    two += [r for n in (600, 700, 800) for r in trained(BESIDE, 1, num_steps=n)]
    board = board_of(two)
    assert [sorted(task.at) for task in mixed(board)] == [[0, 1], [0, 1]]
    assert len(charts(board)) == 2


@pytest.mark.parametrize(
    "elsewhere",
    [
        {"training_version": 9},
        {"dtype": "bfloat16"},
        {"device": "cuda:0"},
        {"num_threads": 2},
    ],
)
def test_an_order_is_of_one_machine_version_and_dtype(elsewhere):
    def moved(record):
        cell = record.cell
        work = replace(cell.task, dtype=elsewhere.get("dtype", cell.task.dtype))
        where = {k: v for k, v in elsewhere.items() if k in ("device", "num_threads")}
        about = {k: v for k, v in elsewhere.items() if k in ("environment", "training_version")}
        return replace(record, cell=replace(cell, workload=work, **where), **about)

    beside = trained(BESIDE, 1)
    assert [sorted(task.at) for task in mixed(board_of([*trained(ALONE, 0), *beside]))] == [[0, 1]]
    apart = mixed(board_of([*trained(ALONE, 0), *map(moved, beside)]))
    assert [sorted(task.at) for task in apart] == [[0]], "hybrids were trained elsewhere"


@pytest.mark.parametrize("count", [0, 1])
def test_a_row_that_may_not_be_ranked_is_in_no_pair(count):
    records = [*trained(ALONE, 0), *trained(BESIDE, 1)]
    leaky = [
        made.changed(record, causal=True, leaks_future=True)
        if record.cell.entry == "gla" and record.cell.task.settings["softmax_layers"] == count
        else made.changed(record, causal=True)
        for record in records
    ]
    ((found,),) = (orders(task) for task in mixed(board_of(leaky)))
    assert [*found.alone] == [*found.hybrid] == [("linear", "retnet")]


def test_a_page_counts_pairs_and_names_those_that_are_reversed(tmp_path):
    beside = BESIDE | {"retnet": (0.7, 0.7, 0.71)}
    records = [*trained(ALONE | {"softmax": (1.0, 1.0, 1.0)}, 0), *trained(beside, 2)]
    earlier = replace(records[0], started_at="2020-01-01T00:00:00Z")
    others = made.task_records(["gla"], task="digits")
    made.stored(tmp_path / "runs", *records, earlier, *others, name="sweep")
    file = tmp_path / "docs" / "hybrids.md"
    page, picture = write_page(tmp_path / "runs", file, "make hybrids", ["recall"], ["A note."])
    text = page.read_text()
    assert f"{len(records)} trainings" in text and "A note." in text
    assert "2 pairs decided both alone and in a hybrid" in text
    assert "0 of the same order, 2 of the reversed one" in " ".join(text.split())
    assert re.search(r"\| recall +\|" + r" +(\d) \|" * 6, text).groups() == (*"232302",)
    assert "linear in the hybrid." in text and "gla is better alone" in text
    assert "    make hybrids" in text and f"](hybrids/{picture.name})" in text
    (chart,) = charts(board_of(records))
    lines = {point["name"]: (point["x"], point["y"]) for point in chart.spec["datasets"]["corners"]}
    assert lines["gla"] == (4, 100.0) and lines.keys() == ALONE.keys()


def test_a_pair_counts_once_and_pairs_that_share_a_mixer_are_one_fact(tmp_path):
    three = ALONE | {"retnet": (0.7, 0.7, 0.71)}
    records = [
        r for count in (0, 1, 2) for r in trained(three | {"linear": (0.55, 0.7, 0.88)}, count)
    ]
    made.stored(tmp_path / "runs", *records, name="sweep")
    text = write_page(tmp_path / "runs", tmp_path / "hybrids.md", "make hybrids")[0].read_text()
    assert "1 pair decided both alone and in a hybrid, of 3 over all tasks: 1 of the same" in text
    assert "one fact" not in text
    records = [
        r for count in (0, 1, 2) for r in trained(three | {"retnet": (0.51, 0.5, 0.5)}, count)
    ]
    made.stored(tmp_path / "more", *records, name="sweep")
    text = write_page(tmp_path / "more", tmp_path / "hybrids.md", "make hybrids")[0].read_text()
    assert "2 pairs decided both" in text
    assert "- The 2 pairs on recall are one fact: gla is ahead of linear and retnet." in text
    assert "no norm over each head" not in text


def test_each_mixer_is_trained_at_its_own_rate_at_every_count_between_none_and_all(
    tmp_path, monkeypatch
):
    trained: list[tuple[object, ...]] = []

    class Arm:
        def __init__(self, name: str) -> None:
            self.name = name

        def changed(self, seed: int, label: str, **settings: object) -> tuple[object, ...]:
            return self.name, seed, label, settings

    config: Any = SimpleNamespace(
        task=[SimpleNamespace(label="mqar", settings={"num_layers": 4})], but=lambda task: task
    )
    asked: Any = SimpleNamespace(
        training=lambda composed: config,
        softmax_layers=(0, 1, 2, 4),
        seed=(0, 1),
        budget=None,
        out=tmp_path,
    )
    said: list[str] = []
    session: Any = SimpleNamespace(composed={}, say=said.append)
    arms = {name: Arm(name) for name in ("softmax", "gla")}
    monkeypatch.setattr(hybrids, "trainer", lambda *_: nullcontext(trained.extend))
    monkeypatch.setattr(hybrids, "trainable", lambda tasks, session: tasks)
    monkeypatch.setattr(hybrids, "tuned", lambda *_, looks_further: arms)
    hybrids.study(asked, session)
    assert trained == [
        ("gla", seed, f"mqar softmax_layers={count}", {"softmax_layers": count})
        for count in (1, 2)
        for seed in (0, 1)
    ]
    assert said == ["Nothing was trained."]


def test_more_softmax_layers_than_layers_are_refused(tmp_path, exits):
    words = ["task=[word_problem]", "softmax_layers=[0,5]", f"out={tmp_path / 'runs'}"]
    assert "softmax_layers is 5 and task.word_problem.num_layers is 4" in exits(2, main(words))
    assert not (tmp_path / "runs").exists()


def test_softmax_is_trained_too_and_a_mixer_that_cannot_be_is_named(tmp_path, monkeypatch, exits):
    planned: list[Any] = []
    monkeypatch.setattr(hybrids, "tuned", lambda cells, *_, **__: planned.extend(cells) or {})
    words = ["task=[word_problem]", "attention=[gla,linformer]", f"out={tmp_path / 'runs'}"]
    said = " ".join(exits(0, main(words)).split())
    assert "linformer is left out on word_problem: " in said
    assert [cell.entry for cell in planned] == ["softmax", "gla"]
    assert {cell.task.settings["softmax_layers"] for cell in planned} == {0}


def test_a_task_that_cannot_be_made_is_refused_before_others_are_trained(
    tmp_path, monkeypatch, exits
):
    monkeypatch.setattr(hybrids, "tuned", lambda *_, **__: pytest.fail("trains"))
    words = ["task=[word_problem,bytes]", "task.bytes.root=/nowhere", "attention=[gla]"]
    assert "root=/nowhere is not there" in exits(2, main([*words, f"out={tmp_path / 'runs'}"]))
