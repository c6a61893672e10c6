from dataclasses import replace

import pytest

from bench.core.record import Status
from bench.publishing.metrics.marks import marks, may_be_ranked
from tests import records as made


def timed(seq_len=1024, num_threads=1, **found):
    cell = made.kernel_cell("mine", seq_len=seq_len, num_threads=num_threads)
    return made.ok_record(cell, made.speed([1.0], **found))


@pytest.mark.parametrize(
    ("found", "phrase"),
    [
        ({"leaks_future": True}, "leaks the future"),
        ({"flops_off": 2.0}, "FLOPs 2x off"),
        ({"flops_off": 0.5}, "FLOPs 0.5x off"),
        ({"flops_off": 1234.5}, "FLOPs 1,234x off"),
        ({"is_view": True}, "output is a view of an input"),
        ({"oracle": "itself"}, "checked against itself"),
        ({"checked_len": 256}, "checked at 256 of 1,024 tokens"),
        ({"checked_len": 1024, "checked_share": 0.0625}, "checked in 6.2 % of rows"),
        (
            {"checked_len": 256, "checked_share": 0.5},
            "checked at 256 of 1,024 tokens, in 50 % of rows",
        ),
        ({"cpu_per_wall": 1.94}, "own threads: 1.9 CPU seconds a second"),
        ({"leaked_bytes": 2**20}, "leaks 1 MiB a call"),
        (
            {"peak_rss_bytes": 328 * 2**20, "peak_memory_bytes": 8 * 2**20},
            "memory outside torch: 320 MiB",
        ),
        ({"is_foreign": True}, "claims untested"),
        ({"is_noisy": True}, "noisy"),
    ],
)
def test_what_was_found_of_a_cell_is_a_phrase(found, phrase):
    assert marks(timed(**found)) == (phrase,)


def test_what_is_in_order_has_no_mark():
    checked = timed(oracle="softmax", checked_len=1024, cpu_per_wall=1.01)
    hole = made.failed_record(made.kernel_cell(), Status.ERROR, "no")
    assert marks(checked, timed(oracle="reference"), hole, *made.task_records(["nala"])) == ()


def test_a_time_below_four_fifths_of_the_floor_is_impossible_and_has_no_rank():
    def against(flops_per_s, *, is_noisy=False):
        ceiling = {"flops_per_s": flops_per_s, "bytes_per_s": [[1e9, 1e9]], "is_noisy": is_noisy}
        return timed(flops=100, ceiling=ceiling)  # in a second

    assert marks(against(50.0)) == ("impossible: 2x faster than the machine's roofline",)
    assert not may_be_ranked(against(50.0))
    assert marks(against(90.0)) == () and may_be_ranked(against(90.0))
    assert marks(against(50.0, is_noisy=True)) == (), "a busy machine can do more"
    assert marks(against(10.0, is_noisy=True)) != ()


@pytest.mark.parametrize(
    ("fresh", "seconds", "phrase"),
    [
        (0.6, 0.5, "0.6x in a fresh process"),
        (1.5, 2.0, "1.5x in a fresh process"),
        (0.95, 0.5, ""),
        (1.5, 0.5, ""),
        (0.6, 2.0, ""),
        (0.6, 1.0, ""),
        (None, 0.5, ""),
    ],
)
def test_a_verdict_that_a_fresh_process_reverses_is_marked(fresh, seconds, phrase):
    beside = {"reference_latency_s": (1.0,) * 8, "reference_rounds": tuple(range(8))}
    found = made.speed([seconds] * 8, fresh_speedup=fresh, **beside)
    row = made.ok_record(made.kernel_cell("mine"), found)
    assert marks(row) == ((phrase,) if phrase else ()) and may_be_ranked(row)


def test_a_cell_of_two_threads_may_use_both():
    assert marks(timed(num_threads=2, cpu_per_wall=1.9)) == ()


def test_a_model_has_no_length_to_be_checked_at():
    record = made.ok_record(made.model_cell("nala"), made.speed([1.0], checked_len=16))
    assert marks(record) == ()


def test_the_worst_comes_first_and_cells_of_one_row_say_each_phrase_once():
    noisy = timed(seq_len=256, is_foreign=True, is_noisy=True)
    leak = timed(is_foreign=True, flops_off=3.0, leaks_future=True)
    assert marks(noisy, leak) == ("leaks the future", "FLOPs 3x off", "noisy", "claims untested")


def test_a_leak_wrong_flops_and_noise_forbid_a_rank_and_come_before_what_does_not():
    harmless = {"is_view": True, "oracle": "itself", "is_foreign": True, "checked_share": 0.1}
    harmless |= {"cpu_per_wall": 2.0, "leaked_bytes": 2**20}
    for reason in ({"leaks_future": True}, {"flops_off": 0.0}, {"is_noisy": True}):
        row = timed(**reason, **harmless)
        assert not may_be_ranked(row)
        assert marks(row)[0] == marks(timed(**reason))[0], "the first mark is why it has no rank"
    assert may_be_ranked(timed(**harmless))
    assert may_be_ranked(made.failed_record(made.kernel_cell(), Status.ERROR, "no"))


MIB = 2**20


@pytest.mark.parametrize(
    ("below", "above"),
    [
        ({"cpu_per_wall": 1.19}, {"cpu_per_wall": 1.21}),
        ({"leaked_bytes": MIB // 2 - 1}, {"leaked_bytes": MIB // 2}),
        *(
            tuple(
                {"peak_memory_bytes": own * MIB, "peak_rss_bytes": (own + outside + one) * MIB}
                for one in (0, 1)
            )
            for own, outside in ((0, 30), (1000, 130))
        ),
        *(
            tuple(
                {"flops": 100, "ceiling": made.ceiling(flops_per_s=border + one, is_noisy=is_busy)}
                for one in (1.0, -1.0)
            )
            for border, is_busy in ((80.0, False), (40.0, True))
        ),
    ],
)
def test_a_mark_begins_where_it_says(below, above):
    assert marks(timed(**below)) == () and len(marks(timed(**above))) == 1


STUCK = {"validation": (0.03,), "validation_steps": (1,), "chance": 0.03}


@pytest.mark.parametrize(
    ("found", "of_task", "phrase"),
    [
        (STUCK, {}, "stuck near chance"),
        ({"ended": "maximum"}, {}, "not settled"),
        ({}, {"shared_rate": None}, "untuned"),
        ({}, {"is_at_edge": True}, "rate at the edge of the search"),
    ],
)
def test_what_may_have_learned_more_has_a_mark_and_no_rank_unless_it_is_a_control(
    found, of_task, phrase
):
    (record,) = made.task_records(["nala"], seeds=(0,))
    mine = made.changed(made.with_work(record, **of_task), **found)
    control = replace(mine, cell=replace(mine.cell, mechanism="uniform"))
    is_open = phrase == "not settled"  # a control too may still improve
    assert may_be_ranked(record) and marks(mine) == (phrase,)
    assert marks(control) == ((phrase,) if is_open else ())
    assert not may_be_ranked(mine) and may_be_ranked(control) is not is_open
    assert may_be_ranked(mine, within_budget=True) is is_open
