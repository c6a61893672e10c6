import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.publishing.metrics.scaling import scaling, seconds_at
from tests.bench.publishing.metrics.growing import with_times

LENGTHS = (256, 512, 1024, 2048, 4096)


def found(records):
    return scaling(records)


coefficient = st.one_of(st.just(0.0), st.floats(0.01, 1.0))


@settings(max_examples=40, deadline=None)
@given(coefficient, coefficient, coefficient)
def test_a_known_polynomial_is_recovered(a, b, c):
    if a + b + c == 0:
        return
    times = {n: a + b * n / 1000 + c * (n / 1000) ** 2 for n in LENGTHS}
    result = found(with_times("nala", times))
    assert result.misfit == pytest.approx(0, abs=1e-6)
    assert result.seconds(1500) == pytest.approx(a + b * 1.5 + c * 2.25, rel=1e-5)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(1e-6, 1.0), min_size=5, max_size=5))
def test_no_coefficient_is_below_zero_whatever_the_times(times):
    result = found(with_times("nala", dict(zip(LENGTHS, times, strict=True))))
    assert min(result.constant_s, result.linear_s, result.quadratic_s) >= 0
    assert result.seconds(1000) > 0


@pytest.mark.parametrize("exponent", [0.5, 1.0, 2.0])
def test_the_exponent_of_a_power_law_is_its_exponent(exponent):
    result = found(with_times("nala", {n: 1e-6 * n**exponent for n in LENGTHS}, spread=0.05))
    low, high = result.exponent_interval or (0.0, 0.0)
    assert low < exponent < high
    assert high - low < 0.1
    assert result.lengths == LENGTHS


def test_between_lengths_a_time_is_as_uncertain_as_the_fit_is_off_at_the_measured_ones():
    times = {256: 1.0, 512: 3.0, 1024: 2.0, 4096: 8.0}  # no polynomial, and without any noise
    records = with_times("nala", times)
    misfit = found(records).misfit
    seconds, (low, high) = seconds_at(records, 2048) or (0.0, (0.0, 0.0))
    off = [abs(found(records).seconds(length) / time - 1) for length, time in times.items()]
    assert misfit == pytest.approx(max(off)) and misfit > 0.1
    assert seconds == pytest.approx(found(records).seconds(2048))
    assert (low, high) == pytest.approx((seconds * (1 - misfit), seconds * (1 + misfit)))
    assert seconds_at(records, 255) is None and seconds_at(records, 4097) is None
    assert seconds_at(records, 256) and seconds_at(records, 4096)


def test_too_few_rounds_have_an_exponent_and_no_interval():
    result = found(with_times("nala", {n: 1e-6 * n for n in LENGTHS}, num_rounds=5))
    assert result.exponent == pytest.approx(1.0)
    assert result.exponent_interval is None
    few = with_times("nala", {512: 1e-6 * 512}, num_rounds=5)
    assert seconds_at(with_times("nala", {n: 1e-6 * n for n in LENGTHS}) | few, 700) is None


def test_a_constant_share_is_that_of_the_fitted_time():
    records = with_times("nala", {n: 1.0 + n / 1024 for n in LENGTHS})
    assert scaling(records).constant_share(1024) == pytest.approx(0.5)


def test_two_lengths_have_no_growth_and_marked_ones_do_not_count():
    assert scaling(with_times("nala", {256: 1.0, 512: 2.0})) is None
    assert scaling(with_times("nala", dict.fromkeys(LENGTHS, 1.0), leaks_future=True)) is None
