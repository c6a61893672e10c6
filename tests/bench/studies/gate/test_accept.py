from dataclasses import replace

import pytest

from bench.core.cli.errors import ConfigError
from bench.studies.gate.accept import (
    accepted_in,
    check_entries,
    read_accepts,
    settle,
)
from bench.studies.gate.rows import GateVerdict, exit_code
from tests.bench.studies.gate.fakes import row

GROWN = row(GateVerdict.MORE, "num_operators", ratio=8 / 7, base=7, current=8)
SLOWER = row(GateVerdict.SLOWER, ratio=1.2, low=1.15, high=1.25)
DROPPED = row(GateVerdict.MORE, "accuracy", ratio=0.9, base=0.9, current=0.81)
OPERATORS = read_accepts(["nala/num_operators: a mask needs one more"])


def settled(rows, accepts=(), kept=(), base_commit="b" * 40):
    return settle(
        rows, accepts, kept, base_commit=base_commit, commit="c" * 40, date="2031-05-06T07:08:09Z"
    )


def test_an_intended_growth_becomes_accepted_with_its_reason():
    found = settled([GROWN, row()], OPERATORS)
    assert [r.verdict for r in found.rows] == [GateVerdict.ACCEPTED, GateVerdict.SAME]
    assert found.rows[0].reason == "a mask needs one more"
    assert exit_code(found.rows) == 0 and found.idle == ()


def test_only_the_named_entry_and_channel_are_accepted():
    others = [replace(GROWN, channel="flops"), replace(GROWN, entry="linear", key="other"), SLOWER]
    found = settled([GROWN, *others], OPERATORS)
    assert [r.verdict for r in found.rows][1:] == [
        GateVerdict.MORE,
        GateVerdict.MORE,
        GateVerdict.SLOWER,
    ]
    assert exit_code(found.rows) == 1


def test_what_is_broken_cannot_be_accepted():
    broken = row(GateVerdict.BROKEN, reason="a bug")
    found = settled([broken], read_accepts("nala/latency: never mind"))
    assert found.rows == (broken,) and [str(a) for a in found.idle] == ["nala/latency"]


def test_what_matches_no_growth_is_said():
    accepts = [*OPERATORS, *read_accepts(["nala/flops: for nothing"])]
    found = settled([GROWN, row(channel="flops")], accepts)
    assert [str(accept) for accept in found.idle] == ["nala/flops"]


def test_an_accepted_growth_is_kept_and_need_not_be_told_again(tmp_path):
    file = accepted_in(tmp_path)
    assert file.read(missing_ok=True) == []
    first = settled([GROWN], OPERATORS)
    assert len(first.new) == 1
    file.write(first.new)
    kept = file.read()
    assert kept == [*first.new]
    assert (kept[0].base, kept[0].current, kept[0].commit) == (7, 8, "c" * 40)

    again = settled([GROWN], kept=kept)
    assert again.rows[0].verdict is GateVerdict.ACCEPTED and again.new == ()
    assert again.rows[0].reason == "a mask needs one more (accepted on 2031-05-06)"
    told_twice = settled([GROWN], OPERATORS, kept)
    assert told_twice.new == () and told_twice.idle == ()
    assert told_twice.rows[0].reason == "a mask needs one more"


@pytest.mark.parametrize(
    ("found", "base", "current", "verdict"),
    [
        (GROWN, 7, 8, GateVerdict.ACCEPTED),
        (GROWN, 7.5, 8, GateVerdict.ACCEPTED),
        (GROWN, 7, 7.5, GateVerdict.ACCEPTED),
        (GROWN, 7, 9, GateVerdict.MORE),  # further than was accepted
        (GROWN, 6, 8, GateVerdict.MORE),  # it had become better since, and that is lost
        (DROPPED, 0.9, 0.81, GateVerdict.ACCEPTED),  # an accuracy, the other way up
        (DROPPED, 0.88, 0.85, GateVerdict.ACCEPTED),
        (DROPPED, 0.9, 0.80, GateVerdict.MORE),
        (DROPPED, 0.95, 0.81, GateVerdict.MORE),
    ],
)
def test_a_kept_growth_covers_the_same_growth_up_to_the_same_value(found, base, current, verdict):
    kept = settled([found], read_accepts(f"nala/{found.channel}: a fair price")).new
    again = settled([replace(found, base=base, current=current)], kept=kept)
    assert again.rows[0].verdict is verdict
    for other in ({"key": "other"}, {"channel": "flops"}):
        assert settled([replace(found, **other)], kept=kept).rows[0].verdict is GateVerdict.MORE


def test_a_slower_time_is_accepted_against_the_same_commit_only():
    accepts = read_accepts(["nala/latency: exact now"])
    kept = settled([SLOWER], accepts).new
    assert settled([SLOWER], kept=kept).rows[0].verdict is GateVerdict.ACCEPTED
    later = settled([SLOWER], kept=kept, base_commit="d" * 40)
    assert later.rows[0].verdict is GateVerdict.SLOWER
    unknown = settled([SLOWER], accepts, base_commit=None).new
    assert settled([SLOWER], kept=unknown, base_commit=None).rows[0].verdict is GateVerdict.SLOWER


def test_a_time_that_is_clearly_slower_than_what_was_accepted_fails():
    kept = settled([SLOWER], read_accepts(["nala/latency: exact now"])).new
    noise = replace(SLOWER, ratio=1.24, low=1.2, high=1.3)
    assert settled([noise], kept=kept).rows[0].verdict is GateVerdict.ACCEPTED
    worse = replace(SLOWER, ratio=1.4, low=1.3, high=1.5)
    assert settled([worse], kept=kept).rows[0].verdict is GateVerdict.SLOWER


def test_growth_is_not_accepted_without_a_reason():
    with pytest.raises(ConfigError, match="without a reason"):
        read_accepts(["nala/num_operators:  "])


def test_an_entry_that_is_not_compared_is_refused():
    check_entries(OPERATORS, {"nala", "linear"})
    with pytest.raises(ConfigError, match=r"'nala', which is not compared.*linear"):
        check_entries(OPERATORS, {"linear"})
