from tests import records as made
from tests.bench.publishing.charts.boards import drawn, lengths, looks


def test_the_points_of_a_scatter_are_told_apart_without_colour_for_neighbours():
    records = lengths() + made.task_records()
    (chart,) = [c for c in drawn(records) if c.name.startswith("accuracy")]
    colour, shape = looks(chart, "colour"), looks(chart, "shape")
    found = [(colour[entry], shape[entry]) for entry in made.ENTRIES]
    assert len(set(found)) == len(found)
    assert len({colour[entry] for entry in made.ENTRIES if entry not in ("uniform", "none")}) == 7
