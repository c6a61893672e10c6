import pytest

from bench.publishing.metrics import evaluate
from bench.publishing.metrics.speedup import ratio_between
from tests import records as made

NAMES = ["speedup_over_softmax", "num_rounds"]

DRIFT = [1.0 * 3**r for r in range(8)]
SPEEDUPS = {
    "half the time in every round, however the clock drifts": (
        made.speed([s / 2 for s in DRIFT], DRIFT),
        [2.0, 2.0, 2.0, 8],
    ),
    "the reference itself": (made.block_records(["softmax"])[0].result, [1.0, 1.0, 1.0, 30]),
    "no reference": (made.speed([1.0] * 9, []), [None, None, None, 0]),
    "five rounds have no interval": (made.speed([1.0] * 5, [3.0] * 5), [3.0, None, None, 5]),
}


@pytest.mark.parametrize("name", SPEEDUPS)
def test_a_speed_up_is_the_median_ratio_of_the_rounds_with_its_interval(name):
    result, expected = SPEEDUPS[name]
    record = made.ok_record(made.kernel_cell("nala"), result)
    assert list(evaluate(record, NAMES).values()) == expected


def test_over_another_reference_there_is_no_speed_up_over_softmax():
    timed = made.speed([1.0] * 9, [3.0] * 9, reference="linear")
    record = made.ok_record(made.kernel_cell("nala"), timed)
    assert [*evaluate(record, ["speedup_over"]).values()] == [3.0, 3.0, 3.0]
    assert list(evaluate(record, NAMES).values()) == [None, None, None, 9]


def timed(entry, seconds, rounds_key):
    return made.ok_record(
        made.kernel_cell(entry), made.speed([seconds] * 9, [1.0] * 9, rounds_key=rounds_key)
    )


def test_two_rows_have_a_ratio_where_the_same_rounds_timed_both():
    found = ratio_between(timed("nala", 0.5, "r"), timed("linear", 2.0, "r"))
    assert found is not None and found.median == 4.0
    assert found.low is not None
    three = [
        made.changed(timed(entry, seconds, "r"), processes=(0, 0, 0, 1, 1, 1, 2, 2, 2))
        for entry, seconds in (("nala", 0.5), ("linear", 2.0))
    ]
    shared = ratio_between(*three)
    assert shared is not None and shared.low is None, "three processes are too few"


@pytest.mark.parametrize("keys", [("r", "s"), ("", ""), ("", "r"), ("r", "")])
def test_rows_of_other_rounds_or_of_rounds_unknown_have_no_ratio(keys):
    assert ratio_between(timed("nala", 0.5, keys[0]), timed("linear", 2.0, keys[1])) is None


def test_what_was_not_timed_has_no_ratio():
    (trained,) = made.task_records(["nala"], seeds=[0])
    one = timed("linear", 1.0, "r")
    assert ratio_between(one, trained) is None and ratio_between(trained, one) is None
