from tests import records as made
from tests.bench.publishing.charts.boards import drawn


def test_nothing_is_drawn_of_a_single_length_of_failures_or_of_nothing():
    assert drawn(made.block_records()) == ()
    assert drawn(made.one_of_each_failure()) == ()
    assert drawn([]) == ()
    assert drawn(made.task_records()) == ()
