from tests.bench.core.test_spans import records as ladder
from tests.bench.publishing.charts.boards import drawn, lengths, points


def test_spans_stand_against_speed_and_state_with_ends_of_the_ladder_beyond_it():
    held = {"softmax": (1, 1, 1, 1), "linear": (1, 0.95, 0.5, 0.2), "nala": (0.5, 0.4, 0.3, 0.2)}
    runs = [run for name, shares in held.items() for run in ladder(name, *3 * [shares])]
    (chart,) = (c for c in drawn(lengths(tuple(held)) + runs) if c.name.startswith("span"))
    at = {point["name"]: point["y"] for point in points(chart)}
    assert at["nala"] < 2 < 4 < at["linear"] < 8 < 16 < at["softmax"]
    assert chart.title == "Span on recall against speed-up over softmax at 4,096 tokens"
    assert len(points(chart, "seeds")) == 9
    assert not [c for c in drawn(lengths() + ladder("nala", (1, 1, 0.5, 0))) if "span" in c.name]
