from tests import records as made
from tests.bench.publishing.charts.boards import drawn, lengths, points


def scattered(records):
    found = [chart for chart in drawn(lengths() + records) if chart.name.startswith("accuracy")]
    return points(found[0]) if found else []


def test_a_score_in_a_unit_and_a_single_row_are_no_picture_of_accuracies():
    records = made.task_records()
    assert len(scattered(records)) == len(made.ENTRIES)
    assert not scattered([made.changed(r, unit="bits per byte") for r in records])
    assert not scattered(made.task_records(["nala"]))


def test_a_row_that_may_not_be_ranked_has_a_star():
    leaky = [
        made.changed(r, causal=False, leaks_future=r.cell.entry == "linear")
        for r in made.task_records(("softmax", "linear"))
    ]
    assert sorted(point["label"] for point in scattered(leaky)) == ["linear*", "softmax"]


def test_points_bars_and_the_line_of_guessing_are_errors_in_per_cent_on_the_axis():
    guess = 0.031
    records = [made.changed(r, chance=guess) for r in made.task_records(("softmax", "linear"))]
    (chart,) = (c for c in drawn(lengths() + records) if c.name.startswith("accuracy"))
    (domain,) = {
        tuple(scale["domain"])
        for layer in chart.spec["layer"]
        if (scale := layer["encoding"].get("y", {}).get("scale"))
    }
    bars = [point[end] for point in points(chart, "bars") for end in ("low", "y", "high")]
    assert 1 < max(bars) < 10, "97.5 and 99.8 % are right"
    guides = {point["y"] for point in points(chart, "guides")}
    assert guides == {100 - 100 * guess}
    assert -1 < domain[1] <= min(bars) and max(guides) <= domain[0], "all lie on the axis"
