import gc

import pytest

from bench.core.statistics import median, paired_ratio
from bench.measuring.measure.latency import Member, round_order, time_round, warm_up


class WrittenClock:
    """Returns a written list, one entry per reading; runs the calls that it is given."""

    def __init__(self, seconds):
        self.seconds = iter(seconds)

    def time_calls(self, call, count):
        for _ in range(count):
            call()
        return next(self.seconds)


class DriftingClock:
    """A machine whose speed drifts: each call costs its nominal time, times a growing factor."""

    def __init__(self, factors):
        self.factors = factors
        self.now = 0

    def time_calls(self, call, count):
        return count * call() * self.factors[self.now]


def member(call, calls_per_sample=1):
    return Member(call=call, calls_per_sample=calls_per_sample, warmup_s=())


def test_ratios_stay_exact_on_a_drifting_machine_where_medians_do_not():
    slow, fast = member(lambda: 0.003), member(lambda: 0.001)
    clock = DriftingClock([1.0 + 0.5 * number for number in range(12)])
    taken = []
    for number in range(12):
        clock.now = number
        taken.append(time_round([slow, fast], round_order(2, 0, number), clock))
    reference, samples = (list(column) for column in zip(*taken, strict=True))
    ratio = paired_ratio(samples, range(12), reference, range(12))
    assert ratio.median == pytest.approx(3.0, rel=1e-12)
    assert ratio.low == pytest.approx(3.0) and ratio.high == pytest.approx(3.0)
    # The same samples without their rounds, taken a while apart, say something else.
    assert median(reference[6:]) / median(samples[:6]) > 4.5


def test_a_sample_is_seconds_per_call():
    calls = []
    m = member(lambda: calls.append(1), calls_per_sample=4)
    assert time_round([m], [0], WrittenClock([0.8])) == [pytest.approx(0.2)]
    assert len(calls) == 4


def test_a_member_is_prepared_before_its_sample_and_settled_after_it_outside_of_its_span():
    seen = []

    class Spans:
        def time_calls(self, call, count):
            seen.append("from")
            for _ in range(count):
                call()
            seen.append("to")
            return 0.1

    def two_threads():
        seen.append("two threads")

    prepared = Member(
        call=lambda: seen.append("call"),
        calls_per_sample=2,
        warmup_s=(),
        prepare=two_threads,
        settle=lambda: seen.append("look"),
    )
    time_round([prepared, member(lambda: seen.append("other"))], [0, 1], Spans())
    assert seen == ["two threads", "from", "call", "call", "to", "look", "from", "other", "to"]
    seen.clear()
    assert time_round([prepared], [0], Spans(), lambda: seen.append("flush")) == [0.1]
    assert seen == ["two threads", *["flush", "from", "call", "to"] * 2, "look"]


def test_the_order_of_a_round_is_random_but_the_same_for_the_same_seed():
    orders = [tuple(round_order(5, 1, n)) for n in range(50)]
    assert orders == [tuple(round_order(5, 1, n)) for n in range(50)]
    assert len(set(orders)) > 30
    assert all(sorted(order) == [0, 1, 2, 3, 4] for order in orders)
    assert {order[0] for order in orders} == {0, 1, 2, 3, 4}
    assert orders[1:] != [tuple(round_order(5, 2, n)) for n in range(49)], "another seed, shifted"


def test_the_garbage_collector_is_off_inside_a_sample_and_on_again_after():
    states = []
    time_round([member(lambda: states.append(gc.isenabled()))], [0], WrittenClock([1.0]))
    assert states == [False] and gc.isenabled()


def test_warm_up_goes_on_until_two_calls_agree():
    calls = []
    m = warm_up(lambda: calls.append(1), WrittenClock([0.5, 0.2, 0.24, 0.25, 9.0]), 0.001)
    assert m.warmup_s == (0.5, 0.2, 0.24, 0.25)
    assert m.calls_per_sample == 1 and len(calls) == 4


def test_short_calls_are_repeated_until_a_sample_can_be_read_off_the_clock():
    m = warm_up(lambda: None, WrittenClock([0.5, 0.0001, 0.0001]), 0.001)
    assert m.calls_per_sample == 10  # by the fastest call: the first one is no guide
    for too_short in (0.0, 1e-9):
        assert warm_up(lambda: None, WrittenClock([too_short] * 2), 0.001).calls_per_sample == 1000


def test_warm_up_of_an_unsteady_call_ends():
    m = warm_up(lambda: None, WrittenClock([0.001 * 2 ** (n % 2) for n in range(100)]), 0.001)
    assert len(m.warmup_s) == 10
    slow = warm_up(lambda: None, WrittenClock([0.4, 0.8, 0.4, 0.8]), 0.001)
    assert len(slow.warmup_s) == 2
