"""Hybrids: pairs of mixers alone and beside softmax layers, and the page that counts them."""

from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import pytest

from bench.hybrids import main
from bench.studies import hybrids
from bench.studies.hybrids import board_of, charts, mixed, orders, write_page
from tests import records as made

ALONE = {"gla": (0.9, 0.91, 0.9), "linear": (0.5, 0.51, 0.5), "retnet": (0.5, 0.5, 0.51)}
BESIDE = {"gla": (0.5, 0.51, 0.5), "linear": (0.9, 0.91, 0.9), "retnet": (0.5, 0.5, 0.51)}


def trained(scores, count):
    """Models of four layers, with so many of softmax; a seed for each score."""
    settings = {"num_layers": 4, "softmax_layers": count, "learning_rate": 0.003}
    records = []
    for entry, own in scores.items():
        for record, score in zip(made.task_records([entry]), own, strict=True):
            records.append(made.changed(made.with_work(record, settings=settings), accuracy=score))
    return records


def test_orders_alone_and_beside_softmax_are_the_same_or_reversed():
    softmax = {"softmax": (1.0, 1.0, 1.0)}
    (task,) = mixed(board_of([*trained(ALONE | softmax, 0), *trained(BESIDE, 1)]))
    (found,) = orders(task)
    assert found.both(1) == []
    assert found.both(-1) == [("gla", "linear")]
    counts = found.row()
    assert [counts[key] for key in ("pairs", "alone", "hybrid")] == [3, 2, 2]
    assert [count for count, score in task.rows() if score.entry == "softmax"] == [4]


def test_of_bits_the_fewer_are_ahead():
    records = [*trained(ALONE, 0), *trained(BESIDE, 1)]
    in_bits = [made.changed(record, unit="bits per byte") for record in records]
    ((found,),) = (orders(task) for task in mixed(board_of(in_bits)))
    assert (found.alone["gla", "linear"], found.hybrid["gla", "linear"]) == (-1, 1)


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
    records = [*trained(ALONE | {"softmax": (1.0, 1.0, 1.0)}, 0), *trained(BESIDE, 2)]
    made.stored(tmp_path / "runs", *records, name="sweep")
    page, picture = write_page(tmp_path / "runs", tmp_path / "docs" / "hybrids.md", "make hybrids")
    text = page.read_text()
    assert "1 pair decided both alone and in a hybrid" in text
    assert "linear in the hybrid." in text and "gla is better alone" in text
    assert "    make hybrids" in text and f"](hybrids/{picture.name})" in text
    (chart,) = charts(board_of(records))
    lines = {point["name"]: (point["x"], point["y"]) for point in chart.spec["datasets"]["corners"]}
    assert lines["gla"] == (4, 100.0)


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


@pytest.mark.parametrize("given", ["[-1]", "[]"])
def test_a_number_of_layers_that_cannot_be_is_refused(given, tmp_path, exits):
    words = ["task=[word_problem]", f"softmax_layers={given}", f"out={tmp_path / 'runs'}"]
    assert "softmax_layers" in exits(2, main(words))


def test_a_score_of_zero_is_drawn():
    softmax = {"softmax": (1.0, 1.0, 1.0)}
    nothing = {"gla": (0.0, 0.0, 0.0)}
    (chart,) = charts(board_of([*trained(ALONE | softmax, 0), *trained(nothing, 1)]))
    corners = chart.spec["datasets"]["corners"]
    assert (1, 0.0) in {(p["x"], p["y"]) for p in corners if p["name"] == "gla"}


def test_a_task_that_cannot_be_made_is_refused_before_others_are_trained(
    tmp_path, monkeypatch, exits
):
    monkeypatch.setattr(hybrids, "tuned", lambda *_, **__: pytest.fail("trains"))
    words = ["task=[word_problem,bytes]", "task.bytes.root=/nowhere", "attention=[gla]"]
    assert "root=/nowhere is not there" in exits(2, main([*words, f"out={tmp_path / 'runs'}"]))
