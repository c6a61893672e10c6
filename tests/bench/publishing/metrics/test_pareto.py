from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from bench.publishing.metrics.pareto import pareto_front

coordinate = st.integers(0, 6)
some = st.dictionaries(st.sampled_from("abcdefgh"), st.tuples(coordinate, coordinate))


@settings(max_examples=60, deadline=None)
@given(some)
def test_the_front_is_what_no_other_point_beats(points: dict[str, tuple[int, int]]) -> None:
    def is_beaten(name: str) -> bool:
        cost, score = points[name]
        return any(c <= cost and s >= score and (c, s) != (cost, score) for c, s in points.values())

    front = pareto_front(points)
    assert set(front) == {name for name in points if not is_beaten(name)}
    assert [points[name][0] for name in front] == sorted(points[name][0] for name in front)


def test_of_twins_both_are_on_the_front() -> None:
    assert pareto_front({"b": (1, 1), "a": (1, 1), "c": (1, 0)}) == ("a", "b")
    assert pareto_front({}) == ()
