import csv
import io
from dataclasses import replace

from bench.core.record import Status
from bench.publishing.frame import csv_text
from bench.publishing.leaderboard import build_leaderboard
from tests import records as made

METRICS = ("latency_s", "speedup_over_softmax", "accuracy")


def text_of(records, metrics=METRICS):
    return csv_text(records, metrics, build_leaderboard(records))


def rows(records, metrics=METRICS):
    return list(csv.DictReader(io.StringIO(text_of(records, metrics), newline="")))


def test_ranks_are_whole_numbers_on_the_newest_record_of_every_cell_and_seed():
    timed, trained = made.block_records(("softmax", "nala")), made.task_records(["nala", "gla"])
    older = replace(timed[1], started_at="2020-01-01T00:00:00+00:00")
    found = rows([older, *timed, *trained])
    ranks = [(r["entry"], r["rank_first"], r["rank_last"]) for r in found if r["kind"] == "kernel"]
    assert ranks == [("nala", "", ""), ("softmax", "1", "1"), ("nala", "2", "2")]
    assert {(r["rank_first"], r["rank_last"]) for r in found if r["seed"]} == {
        ("1", "1"),
        ("2", "2"),
    }


def test_readings_of_a_card_that_a_timed_row_lacks_are_unavailable():
    names = ("power_cap_w", "energy_per_call_j")
    timed, metered = made.speed([1.0]), made.speed([1.0], energy_per_call_j=2.0)
    cells = (made.kernel_cell(), made.kernel_cell("nala"))
    records = [made.ok_record(cell, one) for cell, one in zip(cells, (timed, metered), strict=True)]
    found = rows([*records, *made.sweep_records()], names)
    assert [[row[name] for name in names] for row in found[:2]] == [
        ["unavailable", "unavailable"],
        ["unavailable", "2.0"],
    ]
    assert {row["energy_per_call_j"] for row in found if row["kind"] != "kernel"} == {""}


def test_no_cell_is_a_formula_to_a_spreadsheet():
    names = ["=cmd|'/c calc'!A1", "+1", "-1", "@sum", "a=b"]
    records = [made.ok_record(made.kernel_cell(name), made.speed([0.5])) for name in names]
    records += [made.failed_record(made.kernel_cell(), Status.ERROR, "\t=1+1")]
    found = rows(records)
    assert [row["entry"] for row in found[:-1]] == [f"'{name}" for name in names[:4]] + ["a=b"]
    assert found[-1]["reason"] == "'\t=1+1"
    assert found[0]["latency_s"] == "0.5"
