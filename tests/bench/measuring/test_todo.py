"""Cells that a sweep measures again, and their order."""

from dataclasses import replace

import pytest

from bench.core.record import Status
from bench.measuring.config import Shard
from bench.measuring.machine import environment
from bench.measuring.machine.environment import freshness
from bench.measuring.plan import PlannedCell, reference_cell
from bench.measuring.todo import affordable, missing, most_informative_first, of_shard, only_these
from tests import records as made

CELL = made.kernel_cell("linear", hyperparameters={"eps": 1e-6})
PLANNED = PlannedCell(cell=CELL)


@pytest.fixture(scope="module")
def here():
    return environment.current(("cpu",), "retain", {})


def measured(here):
    """A record of the planned cell, measured with what there is here."""
    speed = made.speed([0.1] * 8, reference_key=reference_cell(CELL).key)
    return made.ok_record(CELL, speed, freshness=freshness(CELL, here))


def test_what_was_measured_with_the_same_things_is_not_measured_again(here):
    assert missing([PLANNED], [measured(here)], here) == []


@pytest.mark.parametrize(
    "change", [{"allocator": "default"}, {"processor": "another"}, {"versions": {"torch": "9.9"}}]
)
def test_a_number_made_with_other_things_is_measured_again(here, change):
    assert missing([PLANNED], [measured(here)], replace(here, **change)) == [PLANNED]
    stale = replace(measured(here), freshness="of another source")
    assert missing([PLANNED], [stale], here) == [PLANNED]


def test_the_newest_record_says_whether_a_cell_is_measured_again_and_why_it_was_skipped(here):
    old = measured(here)
    crashed = replace(old, status=Status.CRASHED, reason="killed", result=None)
    later = {"started_at": "2099-01-01T00:00:00+00:00"}
    assert missing([PLANNED], [replace(crashed, **later), old], here) == [PLANNED]
    assert missing([PLANNED], [replace(old, **later), crashed], here) == []
    for status in set(Status) - {Status.OK, Status.SKIPPED}:
        settles = status in (Status.INCORRECT, Status.DIVERGED)
        ended = replace(crashed, status=status)
        assert missing([PLANNED], [ended], here) == ([] if settles else [PLANNED])
    skipped = replace(crashed, status=Status.SKIPPED, reason="needs 9 GiB")
    assert missing([PLANNED], [skipped], here) == [PLANNED], "there may be more memory now"
    as_before = replace(PLANNED, unsupported="needs 9 GiB")
    assert missing([as_before], [skipped], here) == []


def test_a_reference_of_the_same_name_and_other_settings_is_another_one(here):
    ok = measured(here)
    other = replace(ok, result=replace(ok.result, reference_key="0" * 16))
    assert missing([PLANNED], [other], here) == [PLANNED]


def test_only_failed_and_only_stale_choose_what_was_measured_before(here):
    ok = measured(here)
    failed = replace(ok, status=Status.INCORRECT, reason="differs", result=None)
    stale = replace(ok, freshness="of another source")
    skipped = replace(failed, status=Status.SKIPPED, reason="needs 9 GiB")
    for kept, failed_only, stale_only in (
        ([], [], []),
        ([ok], [], []),
        ([failed], [PLANNED], []),
        ([stale], [], [PLANNED]),
        ([stale, ok], [], []),
        ([skipped], [], []),
        ([failed, replace(ok, started_at="2099-01-01T00:00:00+00:00")], [], []),
    ):
        assert only_these(["failed"], [PLANNED], kept, here) == failed_only
        assert only_these(["stale"], [PLANNED], kept, here) == stale_only


def task(entry, seed=0):
    return made.task_cell(entry, seed=seed)


def test_what_tells_most_that_is_new_per_second_comes_first():
    short = [made.kernel_cell(name, seq_len=256) for name in ("softmax", "linear")]
    long = [made.kernel_cell(name, seq_len=4096) for name in ("softmax", "linear")]
    units = {"seed 1": [task("linear", 1)], "seed 0": [task("linear")], "long": long}
    units |= {"again": short, "short": short}
    costs = {"seed 1": 10.0, "seed 0": 10.0, "long": 40.0, "short": 2.0, "again": 3.0}
    order = most_informative_first(units, costs)
    assert order[0] == "short", "it shows two rows at all axes"
    assert order.index("long") < order.index("again"), "which shows nothing new"
    assert {order[1], order[2]} == {"seed 1", "seed 0"}, "one of them shows the task"
    assert sorted(order) == sorted(units)
    again = [replace(short[0], num_threads=2)]
    units = {"first": short[:1], "the same": short[:1], "with two threads": again}
    costs = {"first": 1.0, "the same": 2.0, "with two threads": 3.0}
    assert most_informative_first(units, costs) == ["first", "with two threads", "the same"]


def test_a_budget_takes_what_fits_and_something_cheaper_in_the_place_of_what_does_not():
    cells = [made.kernel_cell("linear", seq_len=n) for n in (64, 128, 256)]
    planned = [PlannedCell(cell=cell) for cell in cells]
    planned.append(PlannedCell(cell=task("none"), unsupported="no data"))
    costs = dict(zip([cell.key for cell in cells], (1.0, 50.0, 2.0), strict=True))

    def chosen(left_s):
        found = affordable(planned, lambda p: costs.get(p.cell.key, 0.0), left_s)
        return [None if p.cell.is_task else p.cell.kernel.seq_len for p in found]

    assert chosen(0.5) == [None]
    assert chosen(1.5) == [None, 64]
    assert chosen(5.0) == [None, 64], "what is left is chosen once the first is measured"
    assert chosen(10.0) == [None, 64, 256]
    assert chosen(200.0) == [None, 64, 256, 128]
    # Six rows at once tell most per second, and take too long.
    rows = ("nala", "softmax", "gla", "performer", "retnet", "none")
    block = [PlannedCell(cell=made.kernel_cell(row, seq_len=512)) for row in rows]
    costs |= dict.fromkeys((p.cell.key for p in block), 0.6)
    planned = [*block, planned[0]]
    assert chosen(4.0) == [512] * 6 and chosen(1.5) == [64]


def test_shards_share_a_plan_and_keep_blocks_together():
    entries = ("softmax", "linear", "nala")
    cells = [
        made.kernel_cell(entry, seq_len=n, mode=mode, num_threads=threads)
        for n in (64, 128, 256, 512)
        for mode in ("forward", "forward_backward")
        for threads in (1, 2)
        for entry in entries
    ]
    cells += [task(entry, seed) for entry in entries for seed in range(4)]
    planned = [PlannedCell(cell=cell) for cell in cells]
    for count in (1, 2, 3, 7, 100):
        parts = [of_shard(planned, Shard(index=i, count=count)) for i in range(1, count + 1)]
        assert sorted(map(repr, sum(parts, ()))) == sorted(map(repr, planned))
        blocks = [{p.cell.block for p in part if not p.cell.is_task} for part in parts]
        assert sum(map(len, blocks)) == len(set().union(*blocks)) == 8
        assert parts[0] == of_shard(planned, Shard(index=1, count=count))
        others = of_shard(planned[::-1], Shard(index=1, count=count))
        assert others == parts[0][::-1], "the order of a plan decides nothing"
    sizes = [len({p.cell.block for p in part if not p.cell.is_task}) for part in parts[:20]]
    assert max(sizes) <= 1
    assert of_shard(planned, None) == tuple(planned)
