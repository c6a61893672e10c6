"""Calls of two trees in turn: what slows both alike cancels, and nothing but calls is timed."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from bench.measuring import subject as subjects
from bench.measuring.worker import paired as module
from bench.measuring.worker.paired import paired_rounds
from tests.bench.measuring.worker.fakes import Channel, cell, timed_by

ROOT = Path(__file__).resolve().parents[4]


class Drifting:
    """A machine that gets slower with each sample; the current tree's calls take twice the time."""

    def __init__(self):
        self.calls, self.counts, self.slowness = [], [], 1.0

    def time_calls(self, call, count):
        if call not in self.calls:  # the base warms up first
            self.calls.append(call)
        self.counts.append(count)
        self.threads = torch.get_num_threads()
        self.slowness += 0.05
        call()
        return count * self.slowness * 1e-3 * (1 + self.calls.index(call))


@pytest.fixture
def pair(monkeypatch):
    """`pair.take(repeat_every, **workload)` gives the ratios; its clock, subjects and flushes."""
    clock, built, kind, flushes = Drifting(), [], subjects.Subject, []
    device = timed_by(clock, lambda: flushes.append(len(clock.counts)))
    monkeypatch.setattr(module, "device_named", lambda name: device)

    def build(*words, **more):
        built.append(kind(*words, **more))
        return built[-1]

    def take(repeat_every=None, num_threads=1, **workload):
        channel, one, threads = Channel(), cell(num_threads), torch.get_num_threads()
        flat = replace(one, workload=replace(one.workload, **workload)).to_dict()
        rules = {"min_sample_s": 0.01, "min_rounds": 5, "budget_s": 0.0, "seed": 3}
        request = {"base": flat, "current": flat, "root": str(ROOT), "repeat_every": repeat_every}
        pair.found = paired_rounds(request | rules, channel)
        torch.set_num_threads(threads)
        return [said["ratio"] for said in channel.sent if "ratio" in said]

    monkeypatch.setattr(subjects, "Subject", build)
    pair = SimpleNamespace(take=take, clock=clock, built=built, flushes=flushes)
    return pair


def test_a_machine_that_gets_slower_moves_no_ratio_and_both_trees_read_the_same_tensors(pair):
    assert pair.take() == pytest.approx([2.0] * 5)
    base, current = pair.built
    assert current.sets is base.sets and current.library is not base.library
    assert not pair.flushes
    assert pair.found.latency_s > 1.5e-3 * pair.clock.slowness, "the current tree's"


def test_a_stop_ends_the_rounds_of_two_trees_after_the_one_under_way(pair, monkeypatch):
    monkeypatch.setattr(Channel, "is_stop_asked", lambda self: True)
    assert len(pair.take()) == 1


def test_the_caches_are_flushed_before_each_call_of_a_cold_cell(pair):
    pair.take(cache="cold")
    first = pair.flushes[0]
    assert pair.flushes == [*range(first, len(pair.clock.counts))], "the calls before warm up"
    assert set(pair.clock.counts[first:]) == {1} and len(pair.flushes) % (2 * 2 * 5) == 0


def test_a_sample_has_the_slowdown_of_a_self_test_a_whole_number_of_times(pair):
    pair.take(repeat_every=7, num_threads=2)
    assert (pair.clock.counts[-1], pair.clock.threads) == (14, 2)
    are_plain = [a is b.call for a, b in zip(pair.clock.calls, pair.built, strict=True)]
    assert are_plain == [True, False], "the current tree alone is slowed down"


@pytest.mark.parametrize("mode", ["decode", "backward"])
def test_what_calls_need_is_made_before_the_first_of_them_is_timed(pair, monkeypatch, mode):
    made, make = [], subjects._BEFORE[mode]

    def note(*words):
        made.append(len(pair.clock.counts))
        return make(*words)

    monkeypatch.setitem(subjects._BEFORE, mode, note)
    pair.take(mode=mode, causal=True)
    assert made == [0] * 8, "four sets of inputs, for each of two trees"
