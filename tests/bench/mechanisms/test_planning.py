"""What is measured, in which order and how often."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from bench.mechanisms.config import read_mechanisms_config
from bench.mechanisms.planning import plan_units
from bench.mechanisms.units import FORMS, SAVED, SOFTMAX, THREADS, Unit
from bench.plan import REFERENCE
from tests.bench.mechanisms.runs import composed

MEMORY = 24 * 2**30
MLLA = {"mlla": {"mechanism": "mlla"}}


def units(memory_bytes: int = MEMORY, num_cores: int = 2, **changes: Any) -> tuple[Unit, ...]:
    config = read_mechanisms_config(composed(**changes))
    return plan_units(config, memory_bytes=memory_bytes, num_cores=num_cores)


def test_every_place_has_the_forms_beside_each_other_and_beside_softmax() -> None:
    planned = units(causal=[False])
    assert Counter(unit.part for unit in planned) == {
        FORMS: 32,
        SOFTMAX: 16,
        THREADS: 16,
        SAVED: 2,
    }
    for unit in planned:
        labels = [cell.entry for cell in unit.cells]
        expected = {
            FORMS: [["nala", "nala official"], ["linear", "linear official"]],
            SOFTMAX: [["nala", "linear", REFERENCE]],
            THREADS: [["nala", "nala 1 thread"], ["linear", "linear 1 thread"]],
            SAVED: [["nala", "linear"]],
        }
        assert labels in expected[unit.part]
        blocks = {replace(cell, num_threads=1).block for cell in unit.cells}
        assert len(blocks) == 1, "they differ in the mechanism, or in threads, only"
        assert all(cell.kernel.seq_len == unit.place.seq_len for cell in unit.cells)


def test_short_sequences_come_first_so_that_a_cut_run_has_whole_columns() -> None:
    lengths = [unit.place.seq_len for unit in units(seq_len=[512, 64, 128])]
    assert lengths == sorted(lengths)


def test_causal_units_hold_only_what_has_a_causal_form() -> None:
    causal = [unit for unit in units(num_threads=1) if unit.place.causal]
    assert {cell.entry for unit in causal for cell in unit.cells} == {
        "linear",
        "linear plain",
        REFERENCE,
    }


def test_layers_are_timed_beside_a_layer_of_softmax() -> None:
    planned = units(attention=MLLA, causal=[False])
    assert {cell.kernel.scope for unit in planned for cell in unit.cells} == {"layer"}


def test_of_a_length_the_first_threads_and_allocator_come_first() -> None:
    places = [(u.place.seq_len, u.place.num_threads, u.place.allocator) for u in units()]
    assert list(dict.fromkeys(places)) == [
        (length, *rest)
        for length in (64, 256)
        for rest in ((1, "default"), (1, "retain"), (2, "default"), (2, "retain"))
    ]


def test_a_pair_of_forms_has_its_processes_for_itself() -> None:
    for unit in units(causal=[False]):
        if unit.part == FORMS:
            assert [cell.entry.partition(" ")[2] for cell in unit.cells] == ["", "official"]
        if unit.part == THREADS:
            assert [cell.num_threads for cell in unit.cells] == [2, 1]


def test_short_rounds_are_taken_in_as_many_processes_as_an_interval_needs() -> None:
    settings: dict[str, Any] = {"seq_len": [64, 16384], "num_heads": 8, "head_dim": 64}
    planned = units(**settings, mode="forward_backward", causal=[False])
    number = {(unit.part, unit.place.seq_len): unit.num_processes for unit in planned}
    assert number[FORMS, 64] == number[THREADS, 64] == 6
    assert number[FORMS, 16384] == 1
    assert {number[part, 64] for part in (SOFTMAX, SAVED)} == {1}
    forms = {unit.num_processes: unit for unit in planned if unit.part == FORMS}
    short, long = forms[6], forms[1]
    assert (short.stopping.min_rounds, long.stopping.min_rounds) == (2, 6)
    assert 6 * short.stopping.budget_s == pytest.approx(long.stopping.budget_s)


def test_members_that_memory_cannot_hold_together_are_split() -> None:
    planned = units(memory_bytes=1, causal=[False])
    for unit in planned:
        if unit.part == SOFTMAX:
            assert len(unit.cells) == 2
            assert unit.cells[-1].entry == REFERENCE


def test_long_calls_of_softmax_are_timed_in_fewer_rounds_but_two() -> None:
    settings: dict[str, Any] = {"seq_len": [64, 16384], "num_heads": 8, "head_dim": 64}
    rounds = {
        (unit.part, unit.place.seq_len): unit.stopping.min_rounds
        for unit in units(**settings, mode="forward_backward", causal=[False])
    }
    assert rounds[SOFTMAX, 64] == rounds[FORMS, 16384] == 6
    assert rounds[SOFTMAX, 16384] == 2


def test_our_forms_with_two_threads_are_timed_beside_themselves_with_one() -> None:
    planned = [unit for unit in units(causal=[False]) if unit.part == THREADS]
    assert {unit.place.num_threads for unit in planned} == {2}
    assert {unit.place.allocator for unit in planned} == {"default", "retain"}
    for unit in planned:
        for many, one in zip(unit.cells[::2], unit.cells[1::2], strict=True):
            assert (many.num_threads, one.num_threads) == (2, 1)
            assert replace(one, entry=many.entry, num_threads=2) == many, "nothing else differs"


def test_threads_are_compared_only_where_there_are_cores_for_them_and_one_is_asked_for() -> None:
    assert not [unit for unit in units(num_cores=1) if unit.part == THREADS]
    assert not [unit for unit in units(num_threads=[2]) if unit.part == THREADS]
    more = [unit for unit in units(num_threads=[1, 2, 4], num_cores=8) if unit.part == THREADS]
    assert {unit.place.num_threads for unit in more} == {2, 4}


def test_a_layers_core_is_planned_with_its_plugin_at_the_scope_of_cores() -> None:
    layer = {"flatten_layer": {"mechanism": "flatten_layer"}}
    planned = units(attention=layer, causal=[False], seq_len=64)
    (forms, *_) = (u for u in planned if u.part == FORMS and u.place.scope == "core")
    assert [cell.entry for cell in forms.cells] == [
        "flatten_layer core",
        "flatten_layer core official",
    ]
    assert all(cell.plugins == ("bench.mechanisms.flatten_core",) for cell in forms.cells)
