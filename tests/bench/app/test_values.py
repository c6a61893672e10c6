import pytest

from bench.app.errors import ConfigError
from bench.app.values import (
    Values,
    duration,
    flag,
    number,
    run_words,
    text,
    time_span,
    whole,
    word,
)

GIVEN = Values({"n": 3, "x": 1, "on": True, "names": "a", "run": {"dtype": "float32", "n": 0}})


def test_values_become_typed():
    assert GIVEN.one("n", whole(low=1)) == 3
    assert isinstance(GIVEN.one("x", number(low=0.0)), float)
    assert GIVEN.one("on", flag) is True
    assert GIVEN.section("run").one("dtype", word(("float32",))) == "float32"


def test_one_value_counts_as_a_list_of_one_and_each_value_once():
    assert GIVEN.some("names", text) == ("a",)
    assert Values({"n": [2, 1, 2]}).some("n", whole(low=1)) == (2, 1)


def test_null_is_no_value_an_empty_section_and_nothing_that_is_optional():
    empty = Values({"run": None, "names": []})
    assert empty.optional("base", text) is None
    assert empty.section("run").given == {}
    assert empty.some("names", text, or_none=True) == ()
    with pytest.raises(ConfigError, match=r"seq_len has no value.*e\.g\. seq_len=\[\.\.\.\]"):
        empty.some("seq_len", whole(low=1))


@pytest.mark.parametrize(
    ("given", "seconds"), [("90s", 90), ("5m", 300), ("1.5h", 5400), (30, 30), (0.5, 0.5)]
)
def test_a_duration_is_seconds_or_words(given, seconds):
    assert duration("budget", given) == seconds


@pytest.mark.parametrize(
    ("read", "value", "words"),
    [
        (whole(low=1), 0, "n is 0; it must be 1 or more"),
        (whole(low=1), 1.5, "n is 1.5; it takes a whole number"),
        (whole(low=1), True, "n is True; it takes a whole number"),
        (whole(low=1, high=8), 9, "n is 9; it must be 8 or less"),
        (number(low=0.0), float("nan"), "n is nan; it takes a finite number"),
        (number(low=0.0), float("inf"), "n is inf; it takes a finite number"),
        pytest.param(number(low=0.0), 10**400, "n is 1", id="huge"),
        (number(low=0.0), -1, "n is -1; it must be 0.0 or more"),
        (number(low=0.0), "1", "n is '1'; it takes a number"),
        (flag, 1, "n is 1; it takes true or false"),
        (text, 3, "n is 3; it takes a name"),
        (text, "", "n is ''; it takes a name"),
        (text, ["a"], "n is the list ['a']; it takes one value"),
        (word(("float32", "float64")), "float23", "n=float23 is not known. Did you mean float"),
        (duration, "9" * 400 + "h", "n is inf; it takes a finite number"),
        (duration, "soon", "n is 'soon'; it takes a duration"),
        (
            time_span,
            "9" * 20 + "h",
            "n is '99999999999999999999h'; it takes a time of up to a year",
        ),
    ],
)
def test_a_wrong_value_is_refused_with_its_full_name_and_what_is_allowed(read, value, words):
    with pytest.raises(ConfigError) as caught:
        Values({"run": {"n": value}}).section("run").one("n", read)
    assert f"run.{words}" in str(caught.value)


def test_an_unknown_key_of_a_section_is_refused_with_the_nearest():
    with pytest.raises(ConfigError, match=r"run\.dtype is not a key\. Known: n\."):
        GIVEN.section("run", ("n",))
    with pytest.raises(ConfigError, match="n is 3; it has keys of its own"):
        GIVEN.section("n")


def test_a_bug_of_ours_is_told_from_a_mistake_and_from_a_verdict(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def command(words: list[str]) -> int:
        raise {"mistake": ConfigError("no"), "stop": KeyboardInterrupt()}.get(words[0], KeyError())

    assert [run_words(command, [word], "usage") for word in ("mistake", "stop", "bug")] == [
        *(2, 130, 3)
    ]
    assert capsys.readouterr().err.count("Traceback") == 1
