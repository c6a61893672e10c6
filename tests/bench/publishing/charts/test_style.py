from tests import records as made
from tests.bench.publishing.charts.boards import drawn, lengths, looks


def test_twenty_eight_entries_are_told_apart_by_colour_and_dash(monkeypatch):
    names = tuple(f"m{i:02}" for i in range(28))
    for i, name in enumerate(names):
        monkeypatch.setitem(made._COSTS, name, (1e-6 * (i + 1), 0.0))
    speedup = drawn(lengths(names))[0]
    colour, dash = looks(speedup, "colour"), looks(speedup, "dash")
    assert len({(colour[name], tuple(dash[name])) for name in names}) == 28


def test_the_points_of_a_scatter_are_told_apart_without_colour_for_neighbours():
    records = lengths() + made.task_records()
    (chart,) = [c for c in drawn(records) if c.name.startswith("accuracy")]
    colour, shape = looks(chart, "colour"), looks(chart, "shape")
    found = [(colour[entry], shape[entry]) for entry in made.ENTRIES]
    assert len(set(found)) == len(found)
    assert len({colour[entry] for entry in made.ENTRIES if entry not in ("uniform", "none")}) == 7
