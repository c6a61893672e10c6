"""What is measured, in which order and how often."""

from __future__ import annotations

from collections import Counter
from typing import Any

from bench.mechanisms.config import read_mechanisms_config
from bench.mechanisms.units import FORMS, SAVED, SOFTMAX, Unit, id_of, plan_units
from bench.plan import REFERENCE

MEMORY = 24 * 2**30
MLLA = {"mlla": {"mechanism": "mlla"}}


def units(memory_bytes: int = MEMORY, **changes: Any) -> tuple[Unit, ...]:
    from tests.bench.mechanisms.runs import composed

    return plan_units(read_mechanisms_config(composed(**changes)), memory_bytes)


def test_every_place_has_the_forms_beside_each_other_and_beside_softmax() -> None:
    planned = units(causal=[False])
    assert Counter(unit.part for unit in planned) == {FORMS: 16, SOFTMAX: 16, SAVED: 2}
    for unit in planned:
        labels = [cell.entry for cell in unit.cells]
        expected = {
            FORMS: ["nala", "nala official", "linear", "linear official"],
            SOFTMAX: ["nala", "linear", REFERENCE],
            SAVED: ["nala", "linear"],
        }
        assert labels == expected[unit.part]
        assert len({cell.block for cell in unit.cells}) == 1, "they differ in the mechanism only"
        assert all(cell.kernel.seq_len == unit.place.seq_len for cell in unit.cells)


def test_short_sequences_come_first_so_that_a_cut_run_has_whole_columns() -> None:
    lengths = [unit.place.seq_len for unit in units(seq_len=[512, 64, 128])]
    assert lengths == sorted(lengths)


def test_causal_units_hold_only_what_has_a_causal_form() -> None:
    causal = [unit for unit in units() if unit.place.causal]
    assert {cell.entry for unit in causal for cell in unit.cells} == {
        "linear",
        "linear plain",
        REFERENCE,
    }


def test_layers_are_timed_beside_a_layer_of_softmax() -> None:
    planned = units(attention=MLLA, causal=[False])
    assert {cell.kernel.scope for unit in planned for cell in unit.cells} == {"layer"}


def test_no_unit_holds_an_entry_beyond_its_longest_sequence() -> None:
    planned = units(max_seq_len={"nala": 64})
    longest = {
        cell.entry: max(u.place.seq_len for u in planned if cell in u.cells)
        for unit in planned
        for cell in unit.cells
    }
    assert (longest["nala"], longest["linear"]) == (64, 256)


def test_the_longest_sequences_are_measured_at_one_place_if_asked() -> None:
    planned = [unit for unit in units(everywhere_up_to=64) if unit.place.seq_len == 256]
    assert {(u.place.num_threads, u.place.allocator) for u in planned} == {(1, "default")}


def test_members_that_memory_cannot_hold_together_are_split_and_pairs_are_not() -> None:
    planned = units(memory_bytes=1, causal=[False])
    for unit in planned:
        if unit.part == FORMS:
            assert [cell.entry.partition(" ")[2] for cell in unit.cells] == ["", "official"]
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


def test_a_unit_is_known_by_its_line_and_no_two_are_alike() -> None:
    planned = units()
    assert len({unit.id for unit in planned}) == len(planned)
    assert all(id_of(unit.to_dict()) == unit.id for unit in planned)
    assert all(unit.expected_s > 0 and unit.describe() for unit in planned)
