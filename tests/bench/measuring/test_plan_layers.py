"""Entries that name a mechanism for each layer: resolved, refused, built and kept in a cell."""

from dataclasses import replace

import pytest

from bench.core.cell import Cell
from bench.core.cli.entries import read_attention_entries
from bench.core.cli.errors import ConfigError
from bench.measuring.plan import checked_hyperparameters
from bench.measuring.support import why_not
from bench.measuring.tasks.base import build_task
from bench.measuring.tasks.longer import state_bytes
from bench.measuring.tasks.model import build_model
from tests import records as made

PATTERN = ["gla", "gla", "gla", "softmax"]


def cell_of(layers, **settings):
    (entry,) = read_attention_entries({"mixed": {"layers": layers}})
    settings = {"num_layers": 4, "causal": True} | settings
    cell = made.task_cell("mixed", mechanism=entry.mechanism, settings=settings)
    return replace(cell, hyperparameters=checked_hyperparameters(entry))


def test_each_layer_is_a_part_with_all_its_hyperparameters():
    cell = cell_of(PATTERN)
    assert [part.mechanism for part in cell.parts] == PATTERN
    assert cell.mechanism == "gla" and cell.key != cell.parts[0].key
    (own,) = [e for e in read_attention_entries({"gla": {"mechanism": "gla"}})]
    assert cell.parts[0].hyperparameters == checked_hyperparameters(own)
    assert Cell.from_dict(cell.to_dict()).key == cell.key


def test_the_model_of_a_hybrid_entry_is_that_of_as_many_softmax_layers():
    cell = cell_of(PATTERN)
    named = build_model(
        build_task("recall", cell.task.settings), cell.mechanism, cell.hyperparameters, 0
    )
    counted = build_task("recall", cell.task.settings | {"softmax_layers": 1})
    gla = cell.parts[0]
    same = build_model(counted, gla.mechanism, gla.hyperparameters, 0)
    found, expected = named.state_dict(), same.state_dict()
    assert found.keys() == expected.keys()
    assert all(bool((found[name] == expected[name]).all()) for name in expected)
    kept = state_bytes(build_task("recall", cell.task.settings), cell, None)
    assert kept == state_bytes(counted, gla, None)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"layers": ["gla", "glaa"]}, "names the layer 'glaa'"),
        ({"layers": ["gla", "gla_softmax"]}, "names the layer 'gla_softmax'"),
        ({"layers": []}, "it takes a list"),
        ({"layers": "gla"}, "it takes a list"),
        ({"layers": ["gla"], "backend": "auto"}, "nothing beside it"),
    ],
)
def test_layers_that_cannot_be_are_refused(given, words):
    with pytest.raises(ConfigError, match=words):
        [checked_hyperparameters(entry) for entry in read_attention_entries({"mixed": given})]


def test_other_numbers_of_layers_and_timing_are_skipped_with_a_reason():
    assert why_not(cell_of(PATTERN)) is None
    assert why_not(cell_of(PATTERN, num_layers=8)) is None
    assert "a multiple of 4 is needed" in str(why_not(cell_of(PATTERN, num_layers=6)))
    for other in ({"softmax_layers": 1}, {"match": "params"}):
        assert "softmax_layers and match are left" in str(why_not(cell_of(PATTERN, **other)))
    assert "has no causal form" in str(why_not(cell_of(["gla", "nystromformer"])))
    timed = replace(made.kernel_cell("mixed"), hyperparameters=cell_of(PATTERN).hyperparameters)
    assert "trained, not timed" in str(why_not(timed))
