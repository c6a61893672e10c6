from __future__ import annotations

from dataclasses import replace

from bench.core.record import Record, Status
from bench.publishing.leaderboard import Leaderboard, build_leaderboard
from bench.publishing.tables import (
    holes_table,
    machine_words,
    speed_sections,
    summary_words,
)
from tests import records as made

COLUMNS = ("speedup_over", "latency_s", "saved_for_backward_bytes")


def board(records: list[Record]) -> Leaderboard:
    return build_leaderboard(records, ("uniform", "none"))


def test_a_speed_table_has_rank_entry_and_a_unit_over_each_column() -> None:
    (section,) = speed_sections(board(made.block_records(["softmax", "linear"])), COLUMNS)
    assert section.title == "cpu · 1 thread · float32 · forward · core · batch 1, 4 heads of 64"
    (table,) = section.tables
    assert table.title == "seq_len 256"
    assert table.header == ("rank", "entry", "speed-up over softmax", "latency (µs)")
    assert table.texts()[0][:2] == ("1", "linear")
    assert table.texts()[1][:3] == ("2", "softmax", "1.00x")


def test_a_column_without_any_number_is_left_out() -> None:
    backward = made.block_records(["softmax"], mode="forward_backward")
    forward = made.block_records(["softmax"])
    tables = [s.tables[0].header for s in speed_sections(board(forward + backward), COLUMNS)]
    assert [header[-1] for header in tables] == ["latency (µs)", "saved for backward (KiB)"]


def test_a_column_of_zeros_is_left_out() -> None:
    record = made.ok_record(made.kernel_cell(), made.speed([4.0], saved_for_backward_bytes=0))
    (section,) = speed_sections(board([record]), COLUMNS)
    assert section.tables[0].header[-1] == "latency (s)"


def test_lengths_of_one_setting_share_a_section_and_no_table() -> None:
    records = made.block_records(["nala"], seq_len=1024) + made.block_records(["nala"])
    (section,) = speed_sections(board(records), COLUMNS)
    assert [table.title for table in section.tables] == ["seq_len 256", "seq_len 1,024"]


def test_a_hole_shows_its_status_where_the_number_would_be() -> None:
    hole = made.failed_record(made.kernel_cell("nala"), Status.OUT_OF_MEMORY, "64 GiB")
    (section,) = speed_sections(board([*made.block_records(["softmax"]), hole]), COLUMNS)
    assert section.tables[0].texts()[1] == ("", "nala", "out of memory", "")


def test_where_all_are_holes_there_is_no_speed_table() -> None:
    result = board(made.one_of_each_failure())
    assert speed_sections(result, COLUMNS) == ()
    assert len(holes_table(result).texts()) == 7


def test_every_hole_has_a_row_with_its_cell_status_and_reason() -> None:
    rows = holes_table(board(made.sweep_records())).texts()
    assert {row[2] for row in rows} == {
        str(status).replace("_", " ") for status in Status if status is not Status.OK
    }
    assert all(all(cell for cell in row) for row in rows)
    assert ("nala", "recall seed=7", "diverged", "The loss was nan after step 40.") in rows


def test_holes_say_the_batch_size_only_where_there_are_several() -> None:
    holes = [
        made.failed_record(made.kernel_cell("nala", batch_size=n), Status.ERROR, "no")
        for n in (1, 8)
    ]
    assert holes_table(board(holes[:1])).texts()[0][1] == "seq_len=256 float32 forward cpu"
    assert holes_table(board(holes)).texts()[1][1].endswith("cpu batch_size=8")


def test_several_machines_are_numbered_everywhere() -> None:
    elsewhere = made.ENVIRONMENT | {"processor": "Zeta"}
    other = made.ok_record(made.kernel_cell("nala"), made.speed([1.0] * 9), environment=elsewhere)
    result = board([*made.block_records(["nala"]), other])
    assert [words.partition(",")[0] for words in machine_words(result)] == [
        "machine 1: Imaginary 9000",
        "machine 2: Zeta",
    ]
    assert [s.title[:15] for s in speed_sections(result, COLUMNS)] == [
        "machine 1 · cpu",
        "machine 2 · cpu",
    ]


def test_the_summary_counts_cells_and_holes() -> None:
    words = summary_words(board(made.sweep_records()))
    assert words == "165 cells: 158 ok, 7 without a number, measured 2031-05-06 at commit 0000000."


def test_what_is_usually_left_alone_is_said_where_it_was_not() -> None:
    records = made.block_records(["nala"], cache="cold", mode="train_step", causal=True)
    (section,) = speed_sections(board(records), COLUMNS)
    assert " · train step · core · causal · cache cold · batch" in section.title


def test_shapes_never_share_a_table_and_what_a_mask_hides_is_said() -> None:
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


def test_the_method_is_named_where_records_of_several_are_shown() -> None:
    old = [replace(record, method_version=0) for record in made.block_records(["linear"])]
    new = made.block_records(["nala"])
    method = new[0].method_version
    titles = [section.title for section in speed_sections(board(old + new), COLUMNS)]
    assert sorted("method 0" in title for title in titles) == [False, True]
    assert sorted(f"method {method} " in f"{title} " for title in titles) == [False, True]
    assert all("method" not in s.title for s in speed_sections(board(new), COLUMNS))


def test_marks_stand_beside_the_rows_that_have_them() -> None:
    loud = made.speed([1.0] * 9, is_noisy=True, is_foreign=True)
    records = [made.ok_record(made.kernel_cell("nala"), loud), *made.block_records(["softmax"])]
    (section,) = speed_sections(board(records), COLUMNS)
    assert section.tables[0].header[:4] == ("rank", "entry", "marks", "speed-up over softmax")
    assert section.tables[0].num_words == 3
    assert {row[1:3] for row in section.tables[0].texts()} == {
        ("softmax", ""),
        ("nala", "claims untested; noisy"),
    }


def test_without_marks_there_is_no_column_of_them() -> None:
    (section,) = speed_sections(board(made.block_records(["softmax"])), COLUMNS)
    assert "marks" not in section.tables[0].header


def test_a_fraction_of_the_roofline_says_which_side_of_it() -> None:
    ceiling = made.ceiling(flops_per_s=1e15, bytes_per_s=[[10**9, 4 * 256 * 4 * 64 * 4.0]])
    calibrated = made.ENVIRONMENT | {"calibration": {"ceilings": [ceiling]}}
    timed = made.speed([4.0], flops=100)
    record = made.ok_record(made.kernel_cell(), timed, environment=calibrated)
    columns = ("speedup_over", "roofline_fraction")
    idle = made.speed([4.0], flops=0)
    mixes_nothing = made.ok_record(made.kernel_cell("none"), idle, environment=calibrated)
    found = build_leaderboard([record, mixes_nothing], ("none",))
    (section,) = speed_sections(found, columns)
    assert section.tables[0].texts()[1][0] == "control" and section.tables[0].texts()[1][-1] == ""
    assert section.tables[0].header[-1] == "roofline fraction (%)"
    assert section.tables[0].texts()[0][-1] == "25.0 memory"


def test_a_speed_up_says_over_what_in_its_header_or_in_each_row() -> None:
    def shown(*references: str) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
        records = [
            made.ok_record(
                made.kernel_cell(f"entry {i}"),
                made.speed([1.0] * 5, [2.0] * 5, reference=label, reference_key=label),
            )
            for i, label in enumerate(references)
        ]
        (section,) = speed_sections(board(records), COLUMNS)
        return section.tables[0].header[:3], [row[:3] for row in section.tables[0].texts()]

    assert shown("linear", "linear") == (
        ("rank", "entry", "speed-up over linear"),
        [("", "entry 0", "2.00x"), ("", "entry 1", "2.00x")],
    )
    assert shown("linear", "nala") == (
        ("entry", "over", "speed-up"),
        [("entry 0", "linear", "2.00x"), ("entry 1", "nala", "2.00x")],
    )
