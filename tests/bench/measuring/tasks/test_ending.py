"""How a run ends: each of the three ways, on curves that are written down."""

import pytest

from bench.measuring.tasks.ending import Curve


def curve(scores, num_steps=100, better="higher", **settings):
    """A look every 5 steps."""
    found = Curve(num_steps, better, **settings)
    for look, score in enumerate(scores, 1):
        assert found.is_due(5 * look)
        found = found.after(5 * look, score)
    return found


def ending(scores, **settings):
    """Looks until the run is over, and how it was."""
    for count in range(len(scores) + 1):
        if (ended := curve(scores[:count], **settings).ended()) is not None:
            return count, ended
    return None


RISING = [0.04 * look for look in range(16)]
LEVELS = {"chance": 0.1, "one of the shown values": 0.25}
AT, BITS = {"levels": LEVELS}, {"better": "lower"}
RIGHT = [0.2, 0.5, 0.9985, 0.999, 1.0]
FALLING = [8 - 0.3 * look for look in range(20)]
ENDS = {
    "every answer right": (RIGHT, {}, (4, "ceiling")),
    "a lower ceiling": (RIGHT, {"ceiling": 0.99}, (3, "ceiling")),
    "no rise in a quarter of the steps": ([0.2, *[0.5] * 11], {}, (7, "plateau")),
    "no rise while the rate is high": ([0.2, *[0.5] * 19], {"fallen_at": 78}, (16, "plateau")),
    "right while the rate is high": (RIGHT, {"fallen_at": 78}, (4, "ceiling")),
    "no rise by a point": ([0.2, 0.5, 0.1, 0.3, 0.4, 0.2, 0.509], {}, (7, "plateau")),
    "a rise by a point": ([0.2, 0.5, 0.1, 0.3, 0.4, 0.2, 0.511], {}, None),
    "small rises add up": ([0.5 + 0.0021 * n for n in range(20)], {}, (20, "maximum")),
    "too small rises": ([0.5 + 0.0019 * n for n in range(20)], {}, (6, "plateau")),
    "the first quarter": ([0.1] * 5, {}, None),
    "after the first quarter": ([0.1] * 6, {}, (6, "plateau")),
    "rising near the end": ([*RISING, *[RISING[-1]] * 4], {}, (20, "maximum")),
    "settled at the last step": ([*RISING[1:], *[RISING[-1]] * 5], {}, (20, "plateau")),
    "bits that fall": (FALLING, BITS, (20, "maximum")),
    "bits have no ceiling": ([8, 4, 0.5, *[0.495] * 9], BITS, (8, "plateau")),
    "stuck at chance": ([0.105] * 20, AT, (20, "maximum")),
    "flat, and nothing known of levels": ([0.105] * 20, {}, (6, "plateau")),
    "stuck at a partial solution": ([0.1, *[0.26] * 19], AT, (20, "maximum")),
    "between two levels, in version 1": ([0.1, *[0.2] * 19], AT, (7, "plateau")),
    "flat beyond all levels": ([0.1, *[0.5] * 19], AT, (7, "plateau")),
    "left late and settled": ([*[0.1] * 10, *[0.25] * 4, *[0.6] * 6], AT, (20, "plateau")),
    "left too late": ([*[0.1] * 10, *[0.25] * 5, *[0.6] * 5], AT, (20, "maximum")),
    "left early": ([*[0.1] * 7, *[0.6] * 13], AT, (13, "plateau")),
    "left for the ceiling": ([*[0.1] * 7, 1.0], AT, (8, "ceiling")),
    "a level that leaves nothing to learn": (
        [0.96] * 20,
        {"levels": {"the single pair": 0.96}},
        (6, "plateau"),
    ),
}


@pytest.mark.parametrize("name", ENDS)
def test_a_run_ends_where_its_curve_says(name):
    scores, settings, end = ENDS[name]
    assert ending(scores, **settings) == end


def test_the_last_step_is_always_looked_at():
    assert Curve(13, "higher").is_due(13) and Curve(41, "higher").every == 3
    assert [s for s in range(1, 42) if Curve(41, "higher").is_due(s)][-2:] == [39, 41]


def test_a_wide_error_of_validation_keeps_a_run_at_a_level():
    def plateau(error):
        found = curve([0.35] * 6, levels=LEVELS)
        return found.through(found.steps, found.scores, error).ended()

    assert plateau(0.0) == "plateau" and plateau(0.09) == "plateau"
    assert plateau(0.11) is None


@pytest.mark.parametrize(("level", "steps"), [(0.3, 10), (0.9, 20), (0.95, None)])
def test_steps_to_a_level_are_those_of_the_first_look_at_it(level, steps):
    assert curve([0.2, 0.5, 0.1, 0.9, 0.2]).steps_to(level) == steps
