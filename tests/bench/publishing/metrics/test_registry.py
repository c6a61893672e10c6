import pytest

from bench.core.cli.errors import ConfigError
from bench.core.format import with_unit
from bench.publishing.metrics import (
    columns_of,
    evaluate,
    find_metric,
    metric_names,
    register_metric,
)
from tests import records as made


def test_every_metric_says_what_it_is_and_which_way_is_better():
    for name in metric_names():
        metric = find_metric(name)
        assert metric.name == name
        assert metric.meaning.endswith(".")
        assert metric.better in ("higher", "lower", None)


@pytest.mark.parametrize("record", made.one_of_each_failure(), ids=lambda r: str(r.status))
def test_a_cell_that_is_not_ok_has_no_number_at_all(record):
    assert set(evaluate(record, metric_names()).values()) == {None}


def test_metrics_come_in_the_order_asked_for_with_their_intervals_beside_them():
    found = evaluate(made.block_records(["nala"])[0], ["flops", "latency_s"])
    assert list(found) == columns_of(["flops", "latency_s"])
    assert list(found) == ["flops", "latency_s", "latency_low_s", "latency_high_s"]
    assert found["latency_low_s"] <= found["latency_s"] <= found["latency_high_s"]


def test_a_misspelt_metric_is_a_config_error_with_the_nearest_names():
    with pytest.raises(ConfigError, match=r"'latency'.*Did you mean latency_s"):
        find_metric("latency")


def test_a_name_stands_for_one_function_only():
    def another(record):
        """Something else."""
        return None

    with pytest.raises(ValueError, match=r"'latency_s' is taken by bench\.publishing"):
        register_metric("latency_s")(another)
    assert find_metric("latency_s").of is not another


def test_a_metric_without_words_is_refused():
    def silent(record):
        return None

    with pytest.raises(ValueError, match="needs a docstring"):
        register_metric("silent_s")(silent)


def test_better_is_one_of_two_words_or_none():
    with pytest.raises(ValueError, match="'more'"):
        register_metric("x_s", better="more")


def test_what_a_card_draws_is_read_off_its_records_in_joules_and_watts():
    speed = made.speed([1.0], energy_per_call_j=0.002, load={"power_cap_w_after": 350.0})
    found = evaluate(
        made.ok_record(made.kernel_cell(), speed), ["energy_per_call_j", "power_cap_w"]
    )
    assert [with_unit(*each) for each in found.items()] == ["2.00 mJ", "350 W"]
