import pytest

from bench.core.cli.errors import ConfigError
from bench.core.cli.values import run_words, storable, text


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (3, "n is 3; it takes a name"),
        ("", "n is ''; it takes a name"),
        (["a"], "n is the list ['a']; it takes one value"),
        ("a\nb", "it takes a name on one line"),
    ],
)
def test_what_is_no_name_is_refused(value, words):
    with pytest.raises(ConfigError) as caught:
        text("n", value)
    assert words in str(caught.value)


def test_a_bug_of_ours_is_told_from_a_mistake_and_from_a_verdict(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def command(words: list[str]) -> int:
        raise {"mistake": ConfigError("no"), "stop": KeyboardInterrupt()}.get(words[0], KeyError())

    assert [run_words(command, [word], "usage") for word in ("mistake", "stop", "bug")] == [
        *(2, 130, 3)
    ]
    assert capsys.readouterr().err.count("Traceback") == 1


@pytest.mark.parametrize("value", [float("nan"), [float("inf")], {"a": 10**400}])
def test_what_no_record_could_hold_is_refused(value):
    with pytest.raises(ConfigError, match="it takes a finite number"):
        storable("n", value)
