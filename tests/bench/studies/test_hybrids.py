"""Hybrids: pairs of mixers alone and beside softmax layers, and the page that counts them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from bench.core.record import Record
from bench.core.store import Store
from bench.hybrids import main
from bench.studies.hybrids import board_of, charts, mixed, orders, write_page
from tests import records as made

ALONE = {"gla": (0.9, 0.91, 0.9), "linear": (0.5, 0.51, 0.5), "retnet": (0.5, 0.5, 0.51)}
BESIDE = {"gla": (0.5, 0.51, 0.5), "linear": (0.9, 0.91, 0.9), "retnet": (0.5, 0.5, 0.51)}


def trained(scores: Mapping[str, Sequence[float]], count: int) -> list[Record]:
    """Models of four layers, with so many of softmax; a seed for each score."""
    settings = {"num_layers": 4, "softmax_layers": count, "learning_rate": 0.003}
    records = []
    for entry, own in scores.items():
        for record, score in zip(made.task_records([entry]), own, strict=True):
            work = replace(record.cell.task, settings=settings)
            record = replace(record, cell=replace(record.cell, workload=work))
            records.append(made.changed(record, accuracy=score))
    return records


def test_orders_alone_and_beside_softmax_are_the_same_or_reversed() -> None:
    softmax = {"softmax": (1.0, 1.0, 1.0)}
    (task,) = mixed(board_of([*trained(ALONE | softmax, 0), *trained(BESIDE, 1)]))
    (found,) = orders(task)
    assert found.both(1) == []
    assert found.both(-1) == [("gla", "linear")]
    counts = found.row()
    assert [counts[key] for key in ("pairs", "alone", "hybrid")] == [3, 2, 2]
    assert [count for count, score in task.rows() if score.entry == "softmax"] == [4]


def test_a_page_counts_pairs_and_names_those_that_are_reversed(tmp_path: Path) -> None:
    records = [*trained(ALONE | {"softmax": (1.0, 1.0, 1.0)}, 0), *trained(BESIDE, 2)]
    store = Store(tmp_path / "runs", "sweep")
    for record in records:
        store.append(record)
    page, picture = write_page(tmp_path / "runs", tmp_path / "docs" / "hybrids.md", "make hybrids")
    text = page.read_text()
    assert "1 pair decided both alone and in a hybrid" in text
    assert "linear in the hybrid." in text and "gla is better alone" in text
    assert "    make hybrids" in text and f"](hybrids/{picture.name})" in text
    (chart,) = charts(board_of(records))
    lines = {point["name"]: (point["x"], point["y"]) for point in chart.spec["datasets"]["corners"]}
    assert lines["gla"] == (4, 100.0)


def test_more_softmax_layers_than_layers_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["task=[word_problem]", "softmax_layers=[0,5]", f"out={tmp_path / 'runs'}"]
    assert main(words) == 2
    assert "softmax_layers is 5 and task.word_problem.num_layers is 4" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("given", ["[-1]", "[]"])
def test_a_number_of_layers_that_cannot_be_is_refused(
    given: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["task=[word_problem]", f"softmax_layers={given}", f"out={tmp_path / 'runs'}"]
    assert main(words) == 2
    assert "softmax_layers" in capsys.readouterr().err


def test_a_score_of_zero_is_drawn() -> None:
    softmax = {"softmax": (1.0, 1.0, 1.0)}
    nothing = {"gla": (0.0, 0.0, 0.0)}
    (chart,) = charts(board_of([*trained(ALONE | softmax, 0), *trained(nothing, 1)]))
    corners = chart.spec["datasets"]["corners"]
    assert (1, 0.0) in {(p["x"], p["y"]) for p in corners if p["name"] == "gla"}
