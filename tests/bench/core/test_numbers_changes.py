from dataclasses import replace

import pytest

from bench.core.numbers import RANDOM, Line, Number, changes, sentences


def swept(attention, norm, *samples):
    at = f"norm {norm:g}"
    return Number(attention=attention, inputs=RANDOM, measure="entropy", at=at, samples=samples)


def own(attention, norm):
    inputs = "recall, layer 0"
    return Number(attention=attention, inputs=inputs, measure="query norm", at="", samples=(norm,))


LINES: list[Line] = [
    *(swept("softmax", norm, 1 - 0.1 * norm, 0.9 - 0.1 * norm) for norm in (0.5, 2, 4, 8)),
    *(swept("nala", norm, 0.7, 0.7) for norm in (0.5, 2, 4, 8)),
]


def test_changes_are_taken_seed_by_seed_over_the_whole_sweep():
    softmax, nala = changes(LINES)
    assert (softmax.attention, softmax.at) == ("softmax", "0.5 to 8")
    assert softmax.samples == pytest.approx((-0.75, -0.75))
    assert nala.samples == (0, 0)


def test_the_norms_of_trained_queries_divide_the_sweep():
    random = replace(own("softmax", 7.5), inputs=RANDOM)
    lines = [*LINES, own("softmax", 2.5), own("nala", 3.5), random]
    assert [number.at for number in changes(lines)] == ["0.5 to 2"] * 2 + ["2 to 4"] * 2
    below, within = sentences(lines)
    assert below == "From norm 0.5 to 2 entropy / ln N changes by: softmax -0.150, nala +0.000."
    assert "(median norms of trained queries here: 2.5 to 3.5)" in within
    farther = changes([*lines, own("nala", 4.5)])
    assert [number.at for number in farther] == ["0.5 to 2"] * 2 + ["2 to 8"] * 2


def test_a_seed_without_a_number_leaves_none():
    lines = [swept("nala", 1, 0.5, None), swept("nala", 2, 0.5, 0.5)]
    assert changes(lines)[0].samples == (0, None)
    assert changes(lines)[0].mean is None
    assert swept("nala", 1, 0.5, 0.6, None).interval is None
    assert sentences([]) == []
