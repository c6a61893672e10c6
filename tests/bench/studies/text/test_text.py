"""Language models of bytes on a short text: what is trained, predicted, stored and shown."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from bench.core.lines import Lines
from bench.measuring.tasks.bytes import TEXT
from bench.studies.text import novels
from bench.studies.text.scaling import Point, power_law
from bench.studies.text.study import Prediction, write_page
from bench.text import main

TINY = (
    *("attention=[softmax,linear]", "hybrid=[linear]", "scaled=[linear]", "seed=[0,1]"),
    *("num_steps=2", "context_len=16", "width=16", "widths=[8,16]", "budgets=[1,2]"),
)


@pytest.fixture
def text(tmp_path: Path) -> Path:
    """Twenty thousand bytes of a novel."""
    path = tmp_path / "short.txt"
    path.write_bytes(TEXT.read_bytes()[:20_000])
    return path


def test_a_power_law_is_found_and_predicts_itself_within_its_interval() -> None:
    points = [
        Point(num_parameters=n, num_steps=d, loss=5 * n**-0.1 * d**-0.2 * (1 + 0.001 * (n % 3)))
        for n in (1_000, 4_000, 16_001)
        for d in (100, 200, 400)
    ]
    law = power_law(points[:-1])
    assert law is not None and law.degrees == 5
    assert law.coefficients[1:] == pytest.approx((-0.1, -0.2), abs=0.002)
    value, low, high = law.predicted(16_001, 400)
    assert low < 5 * 16_001**-0.1 * 400**-0.2 * 1.002 < high and low < value < high
    assert power_law(points[:3]) is None
    assert power_law([p for p in points if p.num_steps == 100] * 2) is None


def test_95_of_100_intervals_hold_the_loss_of_one_more_model() -> None:
    draw, hits = np.random.default_rng(0), 0
    sizes = [(n, d) for n in (1_000, 4_000, 16_000) for d in (100, 400)] + [(4_000, 200)]
    for _ in range(400):
        *points, last = (
            Point(
                num_parameters=n,
                num_steps=d,
                loss=5 * n**-0.1 * d**-0.2 * math.exp(0.05 * draw.normal()),
            )
            for n, d in sizes
        )
        law = power_law(points)
        assert law is not None
        _, low, high = law.predicted(last.num_parameters, last.num_steps)
        hits += low <= last.loss <= high
    assert 0.92 < hits / 400 < 0.98


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("root=nowhere.txt",), "python -m bench.studies.text.novels results/text/novels.txt"),
        (("scaled=[gla]",), "scaled names gla, which is no row. Rows: softmax, linear."),
        (("context_len=4096",), "context_len=4096 needs 40,970 or more"),
        (("largest=true",), "largest=true needs predictions in"),
        (("widths=[]",), "widths=[] is empty."),
    ],
)
def test_a_wrong_setting_is_a_sentence_and_exit_code_2(
    text: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    words: tuple[str, ...],
    message: str,
) -> None:
    assert main([*TINY, f"root={text}", f"out={tmp_path / 'out'}", *words]) == 2
    said = capsys.readouterr().err
    assert message in said and "Traceback" not in said


def test_novels_that_are_not_there_are_a_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert novels.main([str(tmp_path / "novels.txt"), str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert "rdata is not installed" in said or "does not hold the novels" in said
    assert novels.main([]) == 2


@pytest.mark.slow
def test_the_largest_is_trained_only_after_it_was_predicted(text: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    words = [*TINY, "budgets=[1,2,3]", f"root={text}", f"out={out}"]
    assert main(words) == 0
    (said,) = Lines[Prediction](out / "predictions.jsonl", Prediction).read()
    assert said.num_steps == 3 and said.low < said.bits < said.high
    page = (out / "text.md").read_text()
    assert "linear + softmax" in page and "not trained yet" in page
    assert "over 5 models" in page  # that of the comparison is one of them
    assert main([*words, "largest=true"]) == 0
    page = (out / "text.md").read_text()
    assert "measured" in page and "not trained yet" not in page
    made, picture = write_page(out, tmp_path / "docs" / "text.md", "COMMAND")
    assert "    COMMAND" in made.read_text() and picture.suffix == ".svg"
