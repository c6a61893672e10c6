"""Language models of bytes on a short text: what is trained, predicted, stored and shown."""

import gzip
import json
import math
import re
import sys
import zlib
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from bench.core.lines import Lines
from bench.core.record import Quality
from bench.core.store import read_records
from bench.measuring.tasks.bytes import TEXT
from bench.studies.text import novels
from bench.studies.text.page import (
    Facts,
    Point,
    Prediction,
    Stored,
    charts,
    fit,
    law_without_widest,
    power_law,
    rule_beside,
)
from bench.studies.text.study import keep_facts, read_stored, size_of, write_page
from bench.text import main
from tests.records import changed, ok_record, stored, task_cell

TINY = (
    *("attention=[softmax,linear]", "hybrid=[linear]", "scaled=[linear]", "seed=[0,1]"),
    *("num_steps=2", "context_len=16", "width=16", "widths=[8,16]", "budgets=[1,2]"),
)


@pytest.fixture
def text(tmp_path):
    """Twenty thousand bytes of a novel."""
    path = tmp_path / "short.txt"
    path.write_bytes(TEXT.read_bytes()[:20_000])
    return path


def test_a_power_law_is_found_and_predicts_itself_within_its_interval():
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


def test_95_of_100_intervals_hold_the_loss_of_one_more_model():
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
        _, low, high = law.predicted(last.num_parameters, last.num_steps)
        hits += low <= last.loss <= high
    assert 0.92 < hits / 400 < 0.98


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("root=nowhere.txt",), "python -m bench.studies.text.novels results/text/novels.txt"),
        (
            ("scaled=[gla]",),
            "scaled names gla, which is not a row. Rows: softmax, linear. Say scaled=",
        ),
        (("context_len=4096",), "context_len=4096 needs 40,970 or more"),
        (("largest=true",), "largest=true needs predictions in"),
    ],
)
def test_a_wrong_setting_is_a_sentence_and_exit_code_2(text, tmp_path, exits, words, message):
    said = exits(2, main([*TINY, f"root={text}", f"out={tmp_path / 'out'}", *words]))
    assert message in said


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A folder as Debian's package has it, with JSON in the place of R's own format."""
    fake = SimpleNamespace(parser=SimpleNamespace(parse_data=json.loads))
    fake.conversion = SimpleNamespace(convert=lambda content: content)
    monkeypatch.setitem(sys.modules, "rdata", fake)
    database, places = b"", {}
    for name in reversed(novels.NOVELS):
        lines = json.dumps(["", name.upper(), "", "It is a truth", ""]).encode()
        packed = b"size" + zlib.compress(lines)
        places[name] = [len(database), len(packed)]
        database += packed
    (tmp_path / "Rdata.rdb").write_bytes(database)
    (tmp_path / "Rdata.rdx").write_bytes(gzip.compress(json.dumps({"variables": places}).encode()))
    return tmp_path


def test_novels_are_one_text_in_the_order_of_their_publication(package, exits):
    file = package / "novels.txt"
    said = exits(0, novels.main([str(file), str(package)]))
    expected = "\n\n".join(f"{name.upper()}\n\nIt is a truth" for name in novels.NOVELS) + "\n"
    assert file.read_text() == expected and f": {len(expected)} bytes" in said


FACTS = Facts(name="short.txt", num_bytes=20_000, sha256="0" * 64, bytes_per_word=5.0)


def labelled(cell, label):
    """The same cell in the table of this label."""
    return replace(cell, workload=replace(cell.workload, label=label))


def runs(entries, day, label="bytes", bits=(3.0, 3.1), **settings):
    """Each entry with a seed for each score in bits, as trained on a day."""
    usual = {"context_len": 16, "embed_dim": 16, "num_heads": 1, "num_steps": 2}
    work = {"learning_rate": 0.01} | usual | settings
    return [
        ok_record(
            labelled(task_cell(entry, "bytes", seed, settings=work, shared_rate=0.003), label),
            Quality(
                accuracy=score,
                validation=(score,),
                validation_steps=(work["num_steps"],),
                chance=4.0,
                guess="each byte as often as in the training text",
                num_examples=100,
                num_parameters=100 * work["embed_dim"],
                unit="bits per byte",
            ),
            started_at=f"2031-05-{day:02}T07:08:09Z",
        )
        for entry in entries
        for seed, score in enumerate(bits)
    ]


def kept(out, records):
    """A store of these records and the facts of a text."""
    stored(out, *records, name="made-up")
    Lines[Facts](out / "text.jsonl", Facts).write([FACTS])
    return out


def test_a_store_of_another_text_is_refused_and_stays_as_it_is(text, tmp_path, exits):
    out = kept(tmp_path / "out", runs(["linear"], 1))
    before = (out / "text.jsonl").read_bytes()
    said = " ".join(exits(2, main([*TINY, f"root={text}", f"out={out}"])).split())
    assert "holds models of short.txt, and root=" in said and "Choose another out=." in said
    assert (out / "text.jsonl").read_bytes() == before


@pytest.mark.parametrize(("tenth", "bytes_per_word"), [(b"bb bb bb b", 2.5), (b" " * 10, 10.0)])
def test_a_word_has_the_bytes_of_the_unseen_tenth(tmp_path, tenth, bytes_per_word):
    (tmp_path / "earlier.txt").write_bytes(b"of which nothing was trained")
    keep_facts(tmp_path / "earlier.txt", tmp_path)
    (tmp_path / "own.txt").write_bytes(b"a" * 90 + tenth)
    keep_facts(tmp_path / "own.txt", tmp_path)
    (kept,) = Lines[Facts](tmp_path / "text.jsonl", Facts).read()
    assert (kept.name, kept.num_bytes, kept.bytes_per_word) == ("own.txt", 100, bytes_per_word)


def test_rows_of_two_settings_are_not_compared(tmp_path):
    earlier = runs(["softmax", "linear", "gla"], 1, num_steps=4)
    later = runs(["softmax"], 2) + runs(["softmax"], 2, "bytes softmax_layers=1", softmax_layers=1)
    out = kept(tmp_path, [*later, *earlier])
    newest = read_stored(out)
    assert {*newest.rows} == {"softmax", "softmax + softmax"}
    assert '"softmax_layers": 0' in newest.settings
    assert '"num_steps": 2' in newest.settings
    asked = read_stored(out, earlier[0].cell.task.shared_settings)
    assert {*asked.rows} == {"softmax", "linear", "gla"} and '"num_steps": 4' in asked.settings
    never = read_stored(out, {"num_steps": 3})
    assert not never.rows and not never.points


def test_scaled_models_are_those_of_one_setting(tmp_path):
    scaled = [
        runs(["linear"], 1, "bytes scaled", embed_dim=width, context_len=context)[0]
        for width in (8, 16)
        for context in (16, 32)
    ]
    compared = [
        *runs(["linear"], 2),
        *runs(["linear"], 2, bits=(9.0,), learning_rate=0.1),
        *runs(["linear"], 2, softmax_layers=1),
    ]
    others = [*runs(["linear"], 1, embed_dim=32), *runs(["gla"], 1, "bytes scaled")[:1]]
    found = read_stored(kept(tmp_path, [*scaled, *compared, *others]))
    assert sorted(p.num_parameters for p in found.points["linear"]) == [800, 1600]
    assert {*found.rows} == {"linear", "linear + softmax"}


def test_heads_have_16_channels():
    assert [size_of(width)["num_heads"] for width in (8, 24, 64)] == [1, 1, 4]


def test_the_page_says_which_rows_are_apart_and_how_predictions_came_out(tmp_path):
    ranked = [
        *runs(["linear"], 2, bits=(3.0, 3.01, 3.0)),
        *runs(["softmax"], 2, bits=(2.0, 2.0, 2.01)),
    ]
    leaky = [
        changed(record, causal=True, leaks_future=True)
        for record in runs(["gla"], 2, bits=(1.0, 1.0, 1.01))
    ]
    scaled = [
        runs(
            [entry],
            1,
            "bytes scaled",
            bits=[factor * width**-0.1 * steps**-0.3],
            embed_dim=width,
            num_steps=steps,
        )[0]
        for entry in ("retnet", "deltanet")
        for width in (8, 32)
        for steps, factor in ((10, 5.0), (20, 5.1), (40, 5.0))
    ]
    control = runs(["uniform"], 2, bits=(4.0, 4.0, 4.01))
    out = kept(tmp_path / "out", [*ranked, *leaky, *control, *scaled])
    about: dict[str, Any] = {"num_parameters": 3200, "num_steps": 40, "bits": 1.1, "low": 1.0}
    Lines[Prediction](out / "predictions.jsonl", Prediction).write(
        [
            Prediction(attention="retnet", high=1.5, made_at="2031-05-01T00:00:00Z", **about),
            Prediction(attention="deltanet", high=1.1, made_at="2031-05-02T00:00:00Z", **about),
        ]
    )
    page = write_page(out, tmp_path / "text.md", "COMMAND")[0].read_text()
    assert r"1 of 1 pairs of rows that may be ranked are told apart: softmax \< linear" in page
    assert page.index("| gla") < page.index("| softmax") < page.index("| linear")
    assert re.search(r"\| linear +\| 3.003 \(2.988 to 3.019\) .*\| +3 \| +0.01 \| +1,600 \|", page)
    assert " 33,149 (" in page  # 2 to the power of 5 bytes a word at 3.0033 bits
    assert re.search(r"\| gla .* leaks the future", page)
    for name, measured in (("retnet", "inside"), ("deltanet", "outside")):
        law = rf"- {name}: L ~ parameters\^-0.096 \(-0.1\d+ to -0.0\d+\) x updates\^-0.294 \(.*\), "
        assert re.search(law + r"residuals of 1.4 % over 5 models", page)
        assert re.search(rf"- {name}, 3,200 parameters and 40 .* 1.169, {measured}\.", page)
        assert re.search(
            rf"- {name}, 3,200 .* A rule without a law \(see below\) gives 1.169", page
        )
    assert re.search(r"\| retnet +\| +3,200 \| +40 \| +1.169 \| +1.188 \|", page)
    (chart,) = charts(read_stored(out))
    line = [p for p in chart.spec["datasets"]["corners"] if p["name"] == "retnet, 800 parameters"]
    assert [(p["x"], round(p["y"], 3)) for p in line] == [(10, 2.035), (20, 1.686), (40, 1.343)]


@pytest.mark.parametrize(
    ("low", "words"),
    [(1.0, "it could not fail"), (1.45, "it could hardly fail"), (1.6, "it could have failed")],
)
def test_a_prediction_says_whether_its_interval_could_fail(tmp_path, low, words):
    scaled = [
        runs(["linear"], 1, "bytes scaled", bits=[bits], embed_dim=width, num_steps=steps)[0]
        for width, steps, bits in ((8, 20, 2.0), (8, 40, 1.4), (32, 20, 1.5), (32, 40, 1.2))
    ]
    out = kept(tmp_path / "out", [*runs(["softmax"], 2, bits=(3.0, 3.0)), *scaled])
    about: dict[str, Any] = {"num_parameters": 3200, "num_steps": 40, "bits": 1.1, "low": low}
    said = Prediction(attention="linear", high=1.7, made_at="2031-05-01T00:00:00Z", **about)
    Lines[Prediction](out / "predictions.jsonl", Prediction).write([said])
    page = write_page(out, tmp_path / "text.md", "COMMAND")[0].read_text()
    told = rule_beside(read_stored(out).points["linear"], said)
    assert words in told and "A rule without a law (see below) gives 1.050" in told
    assert "40 updates are few: doubling them from 20 brought 0.30 to 0.60 bits a byte" in page


def test_the_largest_width_is_predicted_without_it():
    def points(*losses):
        sizes = [(n, d) for n in (8, 16, 32) for d in (1, 2, 4)]
        return [
            Point(num_parameters=n, num_steps=d, loss=loss)
            for (n, d), loss in zip(sizes, losses, strict=True)
        ]

    law, held_out = law_without_widest(
        points(*(n**-0.1 * d**-0.2 for n in (8, 16, 32) for d in (1, 2, 4)))
    )
    assert law is not None and law.predicted(32, 4)[0] == pytest.approx(32**-0.1 * 4**-0.2)
    assert [point.size for point in held_out] == [(32, 1), (32, 2), (32, 4)]
    assert law_without_widest(points(*[1.0] * 9)[:3])[0] is None


def test_the_newest_prediction_of_a_size_that_is_there_is_shown():
    def said(num_parameters, num_steps):
        about: dict[str, Any] = {"num_parameters": num_parameters, "num_steps": num_steps}
        return Prediction(attention="linear", bits=3, low=2, high=4, made_at="2031", **about)

    points = [Point(num_parameters=n, num_steps=d, loss=3.0) for n in (8, 16) for d in (1, 2, 3)]
    predictions = [said(16, 2), said(16, 3), said(17, 3)]
    found = Stored(
        records=[],
        rows={},
        points={"linear": points},
        facts=FACTS,
        settings="",
        predictions=predictions,
    )
    law, shown = fit(found, "linear")
    assert shown is predictions[1] and law is not None and law.degrees == len(points) - 1 - 3


@pytest.mark.slow
def test_the_largest_is_trained_only_after_it_was_predicted(text, tmp_path):
    out = tmp_path / "out"
    words = [*TINY, "budgets=[1,2,3]", f"root={text}", f"out={out}"]
    assert main(words) == 0
    (said,) = Lines[Prediction](out / "predictions.jsonl", Prediction).read()
    assert said.num_steps == 3 and said.low < said.bits < said.high
    seeds: dict[str, set[int]] = {}
    for record in read_records(out):
        work = record.cell.task
        seeds.setdefault(work.label, set()).add(work.seed)
        assert work.settings["patience"] == 1.0
    assert seeds == {"bytes": {0, 1}, "bytes softmax_layers=1": {0, 1}, "bytes scaled": {0}}
    page = (out / "text.md").read_text()
    assert "linear + softmax" in page and "not trained yet" in page
    assert "over 5 models" in page  # that of the comparison is one of them
    assert main([*words, "largest=true"]) == 0
    page = (out / "text.md").read_text()
    assert "measured" in page and "not trained yet" not in page
    assert main([*words, "budgets=[1,2,3,4]"]) == 0
    first, second = Lines[Prediction](out / "predictions.jsonl", Prediction).read()
    assert first == said and second.num_steps == 4
    assert "4 updates: predicted" in (out / "text.md").read_text()
    made, picture = write_page(out, tmp_path / "docs" / "text.md", "COMMAND")
    assert "    COMMAND" in made.read_text() and picture.suffix == ".svg"
    (out / "predictions.jsonl").unlink()
    assert main(words) == 0  # a row whose largest model is trained gets no prediction
    assert not (out / "predictions.jsonl").exists()
