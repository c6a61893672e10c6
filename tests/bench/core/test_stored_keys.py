"""The keys of all records that are in git: a change that moves one would have it measured again."""

import gzip
import json
from dataclasses import replace

import pytest

from bench.core.cell import Cell
from bench.core.workloads import LATER_SETTINGS, later_settings
from tests.sources import ROOT

STORED = [
    ROOT / "docs" / "results" / "records.jsonl.gz",
    *sorted((ROOT / "results").glob("**/records/*.jsonl")),
]


def lines_of(file):
    content = file.read_bytes()
    text = gzip.decompress(content) if file.suffix == ".gz" else content
    yield from map(json.loads, text.splitlines())


def with_settings(cell, **settings):
    work = replace(cell.task, settings=cell.task.settings | settings)
    return replace(cell, workload=work).key


@pytest.mark.parametrize("file", STORED, ids=lambda file: file.name)
def test_all_keys_of_stored_records_stay(file):
    count = 0
    for line in lines_of(file):
        cell = Cell.from_dict(line["cell"] | {"entry": line["entry"]})
        assert cell.key == line["key"]
        count += 1
        if not cell.is_task:
            continue
        known = later_settings(cell.task.task).items()
        later = {k: v for k, v in known if k not in cell.task.settings}
        assert with_settings(cell, **later) == cell.key
        assert with_settings(cell, head_norm=True, linear_std=0.5) != cell.key
        assert with_settings(cell, patience=0.5) != cell.key
        one_more = cell.task.settings.get("softmax_layers", 0) + 1
        assert with_settings(cell, softmax_layers=one_more) != cell.key
    assert count


def test_stored_records_are_of_timings_and_of_trainings():
    kinds = {line["cell"]["kind"] for file in STORED for line in lines_of(file)}
    assert {"kernel", "task"} <= kinds
    assert LATER_SETTINGS == {
        "head_norm": False,
        "linear_std": 0.0,
        "patience": 0.25,
        "softmax_layers": 0,
    }
    assert later_settings("word_problem") == LATER_SETTINGS | {"scored": "all"}
