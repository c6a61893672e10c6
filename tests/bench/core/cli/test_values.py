import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from bench.core.cli.errors import ConfigError
from bench.core.cli.values import (
    as_typed,
    command_line,
    run_words,
    storable,
    words_and_options,
)


def test_a_bug_of_ours_is_told_from_a_mistake_and_from_a_verdict(capsys):
    def command(words):
        raise {"mistake": ConfigError("no"), "stop": KeyboardInterrupt()}.get(words[0], KeyError())

    assert [run_words(command, [word], "usage") for word in ("mistake", "stop", "bug")] == [
        *(2, 130, 3)
    ]
    assert capsys.readouterr().err.count("Traceback") == 1


@pytest.mark.parametrize("value", [float("nan"), [float("inf")], {"a": 10**400}])
def test_what_no_record_could_hold_is_refused(value):
    with pytest.raises(ConfigError, match="finite numbers of 63 bits"):
        storable("n", value)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (["out="], "out= has no value. Give one, or leave out out."),
        (["out=a", "out=b"], "out= is given twice, as a and as b. Keep one."),
        (["oute=a"], "oute=a is not known. Did you mean out?"),
    ],
)
def test_an_option_without_a_value_or_with_two_is_told_from_an_unknown_one(given, words):
    with pytest.raises(ConfigError) as caught:
        words_and_options(given, ("out",), "usage")
    assert words in str(caught.value)


TEXTS = ["a b", "a,b", "it's", 'say "hi"', "a=b", "~/x", "é", "a#b", " a", "", "[x]", "C:\\x"]
TEXTS += ["12", "1e-3", ".5", "nan", "True", "null", "30m", "2026-01-01", "a.py:f", "a\\", 'a\\"']


@pytest.mark.parametrize(
    "value",
    [*TEXTS, TEXTS, 1e-06, 1e20, 3, True, None, [None, [1, False]], {"a": 1, "b": TEXTS[:5]}],
    ids=repr,
)
def test_hydra_reads_a_value_that_is_written_as_it_was_typed(value):
    found = OverridesParser.create().parse_override(f"key={as_typed(value)}").value()
    assert found == value and type(found) is type(value)


def test_a_command_line_names_what_was_given_but_for_where_files_go():
    config = {"out": "o", "docs": "d", "attention": {"nala": {}, "gla": {}}, "task": {"recall": {}}}
    config |= {"seed": [0, 1], "deep": {"er": "a b"}, "flag": False, "none": None, "usual": 5}
    config["given"] = ("out", "attention", "task", "seed", "deep.er", "docs", "flag", "none", "x.y")
    said = "attnbench try 'attention=[nala,gla]' 'task=[recall]' 'seed=[0,1]' 'deep.er=a b' {}"
    assert command_line("try", config) == said.format("docs=d flag=false")
    assert command_line("try", config, without=["docs"]) == said.format("flag=false")
