from dataclasses import replace

import pytest

from bench.core.record import Status
from bench.publishing.charts import charts
from bench.publishing.growth import growth_sections
from bench.publishing.leaderboard import build_leaderboard
from bench.publishing.tables import (
    speed_sections,
)
from tests import records as made

COLUMNS = ("speedup_over", "latency_s", "saved_for_backward_bytes")


def board(records):
    return build_leaderboard(records, ("uniform", "none"))


def test_a_column_of_zeros_is_left_out():
    record = made.ok_record(made.kernel_cell(), made.speed([4.0], saved_for_backward_bytes=0))
    (section,) = speed_sections(board([record]), COLUMNS)
    assert section.tables[0].header[-1] == "latency (s)"
    alone = made.ok_record(made.kernel_cell(), made.speed([4.0], []))
    hole = made.failed_record(made.kernel_cell("nala"), Status.OUT_OF_MEMORY, "no")
    (section,) = speed_sections(board([alone, hole]), COLUMNS[:1])
    assert section.tables[0].header[2:] == ("speed-up",), "the first column stays"
    assert [row[-1] for row in section.tables[0].texts()] == ["", "out of memory"]


def test_shapes_never_share_a_table_and_what_a_mask_hides_is_said():
    entries = ("softmax", "linear")
    shapes = [{"key_len": 77}, {"padding": 0.25}, {"padding": 0.25, "causal": True}]
    shapes += [{"ragged": 0.5, "batch_size": 8}, {}]
    records = [r for shape in shapes for r in made.block_records(entries, **shape)]
    sections = {s.title: s for s in speed_sections(board(records), COLUMNS)}
    assert len(sections) == len(shapes)
    notes = [s.notes for title, s in sections.items() if "padding" in title or "ragged" in title]
    assert [len(s.tables[0].texts()) for s in sections.values()] == [2] * len(shapes)
    assert any(" · key_len 77 · batch 1" in title for title in sections)
    assert sorted(note.partition(": ")[2].partition(". C")[0] for (note,) in notes) == [
        "the last 25 % of the keys of every row are hidden",
        "the last 25 % of the tokens of every row are hidden",
        "the last row of the batch is 50 % shorter than the first",
    ]
    assert sum(bool(s.notes) for s in sections.values()) == 3


def test_a_machine_and_a_method_are_named_where_there_are_two():
    (here,) = made.block_records(["softmax"])
    there = replace(here, environment=here.environment | {"processor": "Other"}, method_version=9)
    titles = [section.title for section in speed_sections(board([here, there]), COLUMNS)]
    assert [title.partition(" · float32")[0] for title in titles] == [
        f"machine {n} · cpu · 1 thread · method {m}" for n, m in ((1, here.method_version), (2, 9))
    ]
    assert "machine" not in speed_sections(board([here]), COLUMNS)[0].title


def test_over_two_references_no_row_leads_and_each_names_its_own():
    pair = made.block_records(["softmax", "nala"])
    other = [made.changed(r, reference_key="f" * 16, reference="linear") for r in pair[1:]]
    (section,) = speed_sections(board([pair[0], *other]), COLUMNS)
    assert section.tables[0].header[:2] == ("entry", "over")
    assert section.tables[0].leading == frozenset()


@pytest.mark.parametrize(
    ("shape", "direction"),
    [
        ({}, "bidirectional"),
        ({"causal": True}, "causal"),
        ({"causal": True, "mode": "decode"}, "causal"),
        ({"key_len": 77}, "cross"),
    ],
)
def test_headings_and_titles_of_charts_say_the_direction(shape, direction):
    records = [
        r
        for n in (256, 1024, 4096)
        for r in made.block_records(("softmax", "nala"), seq_len=n, **shape)
    ]
    result = board(records + made.task_records(("softmax", "nala")))
    sections = [*speed_sections(result, COLUMNS), *growth_sections(result)]
    assert [f" · {direction} · " in section.title for section in sections] == [True, True]
    timed = [chart for chart in charts(result) if "task" not in chart.name]
    shown = {str(chart.spec["title"]["text"]) for chart in timed if "against" in chart.title}
    assert len(shown) > 2 and all(title.endswith(f", {direction}") for title in shown), shown
