from collections import namedtuple
from dataclasses import replace
from types import SimpleNamespace

from bench.measuring.measure import load as loads
from bench.measuring.measure.load import Snapshot, between, is_noisy, snapshot

# Counters run since the machine started, so that none of them begins at zero.
BEFORE = Snapshot(
    wall_s=1000.0,
    own_cpu_s=40.0,
    busy_s=600.0,
    steal_s=7.0,
    involuntary_switches=90,
    migrations=5,
)
USED = {"wall_s": 10.0, "own_cpu_s": 9.0, "busy_s": 9.5}
CpuTimes = namedtuple("CpuTimes", "user nice system idle iowait irq softirq steal guest guest_nice")


def after(**used):
    used = USED | used
    return replace(BEFORE, **{name: getattr(BEFORE, name) + value for name, value in used.items()})


def test_the_hypervisors_share_is_of_all_cores(monkeypatch):
    monkeypatch.setattr(loads.os, "cpu_count", lambda: 4)
    assert between(BEFORE, after(steal_s=0.8))["steal_share"] == 0.02
    assert not is_noisy(between(BEFORE, after(steal_s=0.8)))
    assert is_noisy(between(BEFORE, after(steal_s=0.9)))


def test_counters_are_rates_and_an_unknown_one_is_left_out(monkeypatch):
    monkeypatch.setattr(loads.os, "getloadavg", lambda: (1.0, 2.0, 3.0))
    load = between(BEFORE, after(involuntary_switches=30, migrations=2))
    assert load["load_average"] == 1.0, "over the last minute"
    assert load["involuntary_switches_per_s"] == 3.0 and load["migrations"] == 2.0
    unknown = replace(BEFORE, migrations=None)
    assert "migrations" not in between(unknown, replace(after(), migrations=None))


def test_waiting_and_stolen_time_are_not_busy_and_a_guests_is_not_counted_twice(monkeypatch):
    times = CpuTimes(100.0, 20.0, 40.0, 5000.0, 300.0, 3.0, 2.0, 11.0, 60.0, 9.0)
    usage = SimpleNamespace(ru_utime=3.0, ru_stime=1.5, ru_nivcsw=8)
    monkeypatch.setattr(loads.psutil, "cpu_times", lambda: times)
    monkeypatch.setattr(loads.resource, "getrusage", lambda who: usage)
    text = "nr_switches : 9\nse.nr_migrations  :  12\n"
    monkeypatch.setattr(loads, "Path", lambda _: SimpleNamespace(read_text=lambda: text))
    found = snapshot()
    assert found.migrations == 12
    assert found.busy_s == 100.0 + 20.0 + 40.0 + 3.0 + 2.0  # a guest's time is within user's
    assert found.steal_s == 11.0
    assert found.own_cpu_s == 4.5 and found.involuntary_switches == 8


def test_a_quarter_of_a_core_is_borne():
    assert not is_noisy({"foreign_cores": 0.25, "steal_share": 0.0})
    assert is_noisy({"foreign_cores": 0.26, "steal_share": 0.0})
