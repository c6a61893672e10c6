import json
from typing import Any

import pytest

from bench.publishing.leaderboard import build_leaderboard
from bench.publishing.sinks.vega import (
    FIELDS,
    PARETO,
    SCALING,
    pareto_rows,
    scaling_rows,
    specification,
)
from tests import records as made
from tests.bench.publishing.charts.boards import lengths


def rows_of():
    records = lengths(("softmax", "nala", "linear", "none")) + made.task_records(
        ("softmax", "nala", "linear", "none")
    )
    board = build_leaderboard(records, ("none",))
    return {SCALING: scaling_rows(board), PARETO: pareto_rows(board)}


@pytest.mark.parametrize("name", [SCALING, PARETO])
def test_each_field_of_a_specification_is_a_column_and_the_chart_draws_every_row(name):
    vl_convert = pytest.importorskip("vl_convert")
    rows = rows_of()[name]
    assert set(FIELDS[name].values()) <= set(rows[0])
    assert all(list(row) == list(rows[0]) for row in rows)
    text = json.dumps(specification(name))
    for field, column in FIELDS[name].items():
        text = text.replace(f"${{field:{field}}}", column)
    assert "${field" not in text
    filled: dict[str, Any] = json.loads(text)
    filled["data"] = {"values": rows}
    picture = vl_convert.vegalite_to_svg(json.dumps(filled))
    assert picture.count('aria-roledescription="point"') >= len(rows)
