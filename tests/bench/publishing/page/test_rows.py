from itertools import combinations
from typing import Any

import numpy as np

from bench.core.record import Status
from bench.publishing.metrics.ranks import Ranks
from bench.publishing.page.rows import Columns, page_rows, wins
from tests import records as made
from tests.bench.publishing.page.made_pages import (
    METRICS,
    board,
    content,
    planned,
)


def rows_of(records):
    """Every row of a page as a dictionary, with the axes of its group."""
    found = page_rows(board(records), METRICS)
    flat = found.columns.to_json()
    rows = []
    for i in range(flat["num_rows"]):
        words = {n: c["vocabulary"][c["ids"][i]] for n, c in flat["words"].items()}
        numbers = {name: values[i] for name, values in flat["numbers"].items()}
        rows.append(words | numbers | found.groups[numbers["group"]])
    return rows


def test_rows_may_lack_columns():
    columns = Columns()
    columns.append({"name": "a"}, {"x": 1})
    columns.append({"name": "b", "mark": "noisy"}, {})
    columns.append({"name": "a"}, {"x": None, "y": 0.123456789})
    assert columns.to_json() == {
        "num_rows": 3,
        "words": {
            "name": {"vocabulary": ["", "a", "b"], "ids": [1, 2, 1]},
            "mark": {"vocabulary": ["", "noisy"], "ids": [0, 1, 0]},
        },
        "numbers": {"x": [1, None, None], "y": [None, None, 0.123457]},
    }


def test_the_median_of_seeds_that_split_has_no_interval():
    records = [
        made.changed(record, accuracy=accuracy, plateaus={"one of the shown values": 0.25})
        for record, accuracy in zip(made.task_records(["gla"]), (0.243, 0.818, 0.966), strict=True)
    ]
    (row,) = rows_of(records)
    assert row["accuracy"] == 0.818
    assert row.get("accuracy_low") is row.get("accuracy_high") is None


def test_a_score_in_a_unit_is_never_shown_as_a_share_of_right_answers(tmp_path):
    nats = [made.changed(r, unit="nats per token", accuracy=1.5) for r in made.task_records()]
    assert {row.get("accuracy") for row in rows_of(nats)} == {None}
    found: Any = content(nats, tmp_path)
    assert "accuracy" not in [metric["name"] for metric in found["metrics"]]


def test_the_page_opens_with_a_long_plain_setting_and_says_what_may_not_be_ranked():
    entries = ("softmax", "nala", "none")
    records = [
        *made.block_records(entries, seq_len=256),
        *made.block_records(entries, seq_len=4096),
        *made.block_records(entries, seq_len=8192, causal=True),
        *made.block_records(entries, seq_len=8192, mode="backward"),
        *made.block_records(entries[:1], seq_len=16384),
    ]
    records[4] = made.changed(records[4], leaks_future=True)
    rows = rows_of(records)
    assert {row["axes"]["length"] for row in rows if row.get("opens")} == {4096}
    assert {row["axes"]["causal"] for row in rows if row.get("opens")} == {False}
    told = {row["name"]: row["is_unranked"] for row in rows if row.get("opens")}
    assert told == {"softmax": False, "nala": True, "none": False}


def test_a_row_without_a_score_is_told_by_the_run_that_failed():
    failed = [
        made.failed_record(made.task_cell("nala", seed=seed), status, f"reason {seed}")
        for seed, status in enumerate((Status.SKIPPED, Status.DIVERGED))
    ]
    rows = rows_of([*made.task_records(["softmax"]), *failed])
    (nala,) = (row for row in rows if row["name"] == "nala")
    assert (nala["status"], nala["reason"], nala["is_unranked"]) == ("skipped", "reason 0", False)
    assert nala["num_seeds_missing"] == 3
    unsettled = [made.changed(r, ended="maximum") for r in made.task_records(["gla"])]
    assert rows_of(unsettled)[0]["is_unranked"] is True


def overrides(record):
    (row,) = rows_of([record])
    return [word for word in row["overrides"].split("\n") if word]


def test_a_training_has_the_overrides_that_plan_it_with_its_label():
    (record,) = made.task_records(["nala"], seeds=[0])
    assert overrides(record) == []  # it lacks settings that are needed today
    assert overrides(planned(record, "recall")) == ["task=[recall]", "rates=shared"]
    assert overrides(planned(record, "recall num_pairs=16", num_pairs=16, match="state")) == [
        *("task=[recall]", "task.recall.num_pairs=[16]"),
        *('task.recall.match="state"', "rates=shared"),
    ]
    assert overrides(planned(record, "recall once more")) == []
    assert overrides(planned(record, "mine")) == []
    assert overrides(planned(record, "recall_causal"))[:2] == [
        *("task=[recall_causal]", "task.recall_causal.causal=false"),
    ]


def test_a_training_at_a_searched_rate_has_the_rate_that_rows_share():
    (record,) = made.task_records(["nala"], seeds=[0])
    record = planned(record, "recall", learning_rate=0.003)
    assert "task.recall.learning_rate=0.003" in overrides(record)
    filters = {"token_filters": ("random",), "token_keep": (0.25, 0.5)}
    assert overrides(made.with_work(record, shared_rate=0.006, **filters)) == [
        *("task=[recall]", "token_filter=[random]", "token_keep=[0.25,0.5]"),
    ]


def test_the_probability_of_a_pair_is_that_the_earlier_row_is_ahead_of_the_later():
    values = np.arange(16.0).reshape(4, 4) / 100
    ranks = Ranks(
        names=(*"abcd",), places=((1, 4),) * 4, wins=values, is_ahead=values > 1, groups=()
    )
    found = wins(ranks)
    pairs = [f"{one}{other}" for one, other in combinations(found["names"], 2)]
    # As the page reads it: a row's pairs with all later rows, then the next row's.
    assert dict(zip(pairs, found["ahead"], strict=True)) == {
        **{"ab": 1, "ac": 2, "ad": 3},
        **{"bc": 6, "bd": 7},
        **{"cd": 11},
    }
