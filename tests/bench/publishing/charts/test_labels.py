import itertools

from hypothesis import given
from hypothesis import strategies as st

from bench.publishing.charts.labels import LINE_HEIGHT, off_the_lines, place_labels, spread


@given(
    st.lists(st.floats(0, 300), max_size=30),
    st.floats(1, 20),
)
def test_spread_labels_keep_their_order_their_distance_and_the_range(wanted, gap):
    wanted = sorted(wanted)
    places = spread(wanted, gap=gap, low=0, high=300)
    room = min(gap, 300 / max(1, len(wanted) - 1))
    assert len(places) == len(wanted)
    assert all(b - a >= room - 1e-6 for a, b in itertools.pairwise(places))
    assert all(-1e-6 <= place <= 300 + 1e-6 for place in places)


def test_a_label_moves_off_the_line_that_would_run_through_it():
    rising = [(0.0, 100.0), (200.0, 60.0)]
    (free,) = off_the_lines([(50.0, 20.0)], ["softmax"], [rising], 300)
    assert free == 20.0
    (moved,) = off_the_lines([(50.0, 85.0)], ["softmax"], [rising], 300)
    assert abs(moved - 85.0) >= LINE_HEIGHT / 2
    assert moved + LINE_HEIGHT / 2 <= 80.2 or moved - LINE_HEIGHT / 2 >= 90.0


def test_no_label_of_a_scatter_covers_another_or_a_point():
    places = [(100.0 + 3 * i, 60.0 + (i % 3)) for i in range(12)]
    names = [f"mechanism_{i}" for i in range(12)]
    boxes = []
    for (x, y, side), name in zip(place_labels(places, names, 400), names, strict=True):
        width = 6.0 * len(name)
        left = x if side == "right" else x - width
        boxes.append((left, y - 6, left + width, y + 6))
    dots = [(x - 4, y - 4, x + 4, y + 4) for x, y in places]
    for a, b in [*itertools.combinations(boxes, 2), *itertools.product(boxes, dots)]:
        assert not (a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3])


def test_a_label_keeps_off_the_dots_of_seeds():
    seeds = [(120.0 + x, 100.0 + y) for x in range(0, 60, 6) for y in (-4, 0, 4)]
    ((x, y, side),) = place_labels([(100.0, 100.0)], ["softmax"], 300, seeds)
    right = x if side == "left" else x + 45
    assert right <= 118 or not 90 < y < 110
