from dataclasses import replace

from bench.measure.load import Snapshot, between, is_noisy, snapshot

BEFORE = Snapshot(
    wall_s=0.0,
    own_cpu_s=0.0,
    busy_s=0.0,
    steal_s=0.0,
    involuntary_switches=0,
    migrations=5,
)


def after(**changes):
    return replace(BEFORE, **({"wall_s": 10.0, "own_cpu_s": 9.0, "busy_s": 9.5} | changes))


def test_what_this_process_uses_is_not_foreign():
    load = between(BEFORE, after())
    assert load["foreign_cores"] == 0.05
    assert not is_noisy(load)


def test_a_busy_neighbour_and_a_greedy_hypervisor_are_noise():
    assert is_noisy(between(BEFORE, after(busy_s=19.0)))
    assert is_noisy(between(BEFORE, after(steal_s=100.0)))


def test_counters_are_rates_and_an_unknown_one_is_left_out():
    load = between(BEFORE, after(involuntary_switches=30, migrations=7))
    assert load["involuntary_switches_per_s"] == 3.0 and load["migrations"] == 2.0
    assert "migrations" not in between(replace(BEFORE, migrations=None), after(migrations=None))


def test_a_snapshot_of_this_machine_can_be_taken():
    first = snapshot()
    second = snapshot()
    assert second.wall_s >= first.wall_s and second.own_cpu_s >= first.own_cpu_s
    assert between(first, second)["foreign_cores"] >= 0
