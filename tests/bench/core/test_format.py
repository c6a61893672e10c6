import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.core.format import (
    column_for,
    format_duration,
    number,
    percent,
    quantity,
    with_interval,
)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1.8349, "1.83"),
        (0.5, "0.500"),
        (100.0, "100"),
        (999.6, "1,000"),
        (1234567.8, "1,234,568"),
        (0.0, "0"),
        (3.17e-8, "3.17e-08"),
        (float("nan"), "nan"),
    ],
)
def test_numbers_have_three_significant_digits(value, text):
    assert number(value) == text


@given(st.floats(min_value=1e-12, max_value=1e15))
def test_a_written_number_is_within_half_a_percent_of_the_number(value):
    assert float(number(value).replace(",", "")) == pytest.approx(value, rel=0.00501)


@pytest.mark.parametrize(
    ("name", "values", "title", "text"),
    [
        ("latency_s", [0.0123], "latency (ms)", "12.3"),
        ("latency_s", [3.3e-5], "latency (µs)", "33.0"),
        ("latency_s", [4.0], "latency (s)", "4.00"),
        ("wait_s", [-0.002, 5e-9], "wait (ms)", "-2.00"),
        ("peak_memory_bytes", [3 * 2**20], "peak memory (MiB)", "3.00"),
        ("saved_for_backward_bytes", [512], "saved for backward (bytes)", "512"),
        ("throughput_tokens_per_s", [4.2e6], "throughput (M tokens/s)", "4.20"),
        ("flops", [2.5e9], "compute (GFLOP)", "2.50"),
        ("flops_per_s", [7e10], "compute rate (GFLOP/s)", "70.0"),
        ("elementwise_elements", [5_000_000], "elementwise (M)", "5.00"),
        ("accuracy", [0.973], "accuracy (%)", "97.3"),
        ("copy_bytes_per_s", [4e10], "copy (GB/s)", "40.0"),
        ("num_parameters", [70_000], "parameters", "70,000"),
        ("speedup_over_softmax", [1.834], "speed-up over softmax", "1.83x"),
        ("rms_error", [2e-7], "rms error", "2.00e-07"),
    ],
)
def test_a_metric_is_shown_in_the_unit_that_its_name_and_size_ask_for(name, values, title, text):
    column = column_for(name, values)
    assert (column.title, column.write(values[0])) == (title, text)


def test_a_column_has_one_unit_chosen_by_its_median():
    column = column_for("latency_s", [2e-5, 0.003, None, 0.004, 0.0, 1.2])
    assert column.title == "latency (ms)"
    assert [column.write(v) for v in (2e-5, 1.2, None)] == ["0.0200", "1,200", ""]


def test_a_few_bytes_beside_mebibytes_are_no_power_of_ten():
    column = column_for("saved_for_backward_bytes", [4, 2**21, 2**22])
    assert [column.write(v) for v in (4, 2**21)] == ["<0.001", "2.00"]


def test_an_interval_is_written_behind_its_value_in_the_same_unit():
    speedup = column_for("speedup_over_softmax", [1.83])
    assert with_interval(speedup, 1.83, 1.79, 1.88) == "1.83x [1.79, 1.88]"
    assert with_interval(speedup, 1.0, 1.0, 1.0) == "1.00x"
    assert with_interval(speedup, 1.83, None, None) == "1.83x"
    assert with_interval(speedup, None, None, None) == ""
    latency = column_for("latency_s", [0.002])
    assert with_interval(latency, 0.002, 0.001, 0.003) == "2.00 [1.00, 3.00]"


def test_counts_agree_with_their_nouns():
    assert [quantity(n, "thread") for n in (1, 2)] == ["1 thread", "2 threads"]
    assert percent(0.98765) == "98.8"


def test_a_duration_is_rounded_and_has_two_units_at_most():
    durations = {0.4: "0 s", 59.4: "59 s", 59.6: "1 min 0 s", 3599: "59 min 59 s"}
    durations |= {3600: "1 h 0 min", 7503: "2 h 5 min"}
    assert {seconds: format_duration(seconds) for seconds in durations} == durations
