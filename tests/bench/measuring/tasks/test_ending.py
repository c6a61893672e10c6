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


def test_every_answer_right_is_the_ceiling():
    assert ending([0.2, 0.5, 0.9985, 0.999, 1.0]) == (4, "ceiling")
    assert ending([0.2, 0.5, 0.9985, 0.999, 1.0], ceiling=0.99) == (3, "ceiling")


def test_a_best_score_that_did_not_rise_by_a_point_in_a_quarter_of_the_steps_is_a_plateau():
    assert ending([0.2, 0.5, *[0.5] * 10]) == (7, "plateau")  # the look at 10 was the last rise
    assert ending([0.2, 0.5, 0.1, 0.3, 0.4, 0.2, 0.509]) == (7, "plateau")
    assert ending([0.2, 0.5, 0.1, 0.3, 0.4, 0.2, 0.511]) is None


def test_small_rises_add_up():
    creeping = [0.5 + 0.0021 * look for look in range(20)]
    assert ending(creeping) == (20, "maximum")
    assert ending([0.5 + 0.0019 * look for look in range(20)]) == (6, "plateau")


def test_there_is_no_plateau_in_the_first_quarter():
    assert ending([0.1] * 5) is None
    assert ending([0.1] * 6) == (6, "plateau")


def test_a_run_that_settled_at_its_very_last_step_has_settled():
    rising = [0.04 * look for look in range(16)]
    assert ending([*rising, *[rising[-1]] * 4]) == (20, "maximum")
    assert ending([*rising[1:], *[rising[-1]] * 5]) == (20, "plateau")


def test_bits_fall_and_have_no_ceiling():
    falling = [8 - 0.3 * look for look in range(20)]
    assert ending(falling, better="lower") == (20, "maximum")
    assert ending([8, 4, 0.5, *[0.495] * 9], better="lower") == (8, "plateau")


def test_the_last_step_is_always_looked_at():
    assert Curve(13, "higher").is_due(13) and Curve(41, "higher").every == 3
    assert [s for s in range(1, 42) if Curve(41, "higher").is_due(s)][-2:] == [39, 41]


LEVELS = {"chance": 0.1, "one of the shown values": 0.25}


def test_a_run_that_is_stuck_at_a_level_goes_on_to_its_last_step():
    flat = [0.105] * 20
    assert ending(flat) == (6, "plateau")
    assert ending(flat, levels=LEVELS) == (20, "maximum")
    assert ending([0.1, *[0.26] * 19], levels=LEVELS) == (20, "maximum")
    assert ending([0.1, *[0.5] * 19], levels=LEVELS) == (7, "plateau")


def test_a_run_that_leaves_a_level_late_is_scored_where_it_settles():
    assert ending([*[0.1] * 10, *[0.25] * 4, *[0.6] * 6], levels=LEVELS) == (20, "plateau")
    assert ending([*[0.1] * 10, *[0.25] * 5, *[0.6] * 5], levels=LEVELS) == (20, "maximum")
    leaving = [*[0.1] * 7, *[0.6] * 13]
    assert ending(leaving, levels=LEVELS) == (13, "plateau")
    assert ending([*[0.1] * 7, 1.0], levels=LEVELS) == (8, "ceiling")


def test_a_wide_error_of_validation_keeps_a_run_at_a_level():
    def plateau(error):
        found = curve([0.15] * 6, levels=LEVELS)
        return found.through(found.steps, found.scores, error).ended()

    assert plateau(0.0) == "plateau" and plateau(0.04) == "plateau"
    assert plateau(0.06) is None


def test_a_level_that_leaves_nothing_to_learn_holds_no_run():
    assert ending([0.96] * 20, levels={"the single pair": 0.96}) == (6, "plateau")


@pytest.mark.parametrize(("level", "steps"), [(0.3, 10), (0.9, 20), (0.95, None)])
def test_steps_to_a_level_are_those_of_the_first_look_at_it(level, steps):
    assert curve([0.2, 0.5, 0.1, 0.9, 0.2]).steps_to(level) == steps


def test_with_all_patience_a_run_goes_to_its_last_step_and_says_whether_it_had_settled():
    flat = Curve(20, "higher", patience=1)
    for step in range(1, 20):
        flat = flat.after(step, 0.5)
        assert flat.ended() is None
    assert flat.after(20, 0.5).ended() == "plateau"
    assert flat.after(20, 0.52).ended() == "maximum"
