"""Settings: values become typed, and a wrong one is refused by its name, value and what may be."""

from enum import StrEnum
from typing import Annotated, Any, Literal, get_args

import pytest
from pydantic_core.core_schema import ErrorType

from bench.core import settings
from bench.core.cli.entries import AttentionEntry
from bench.core.cli.errors import ConfigError
from bench.core.settings import (
    Budget,
    Field,
    Folder,
    Interval,
    Many,
    Name,
    Rows,
    Seed,
    Settings,
    Some,
    Span,
    Word,
    model_validator,
    rows,
)


class Way(StrEnum):
    """How a number was obtained."""

    TABLE = "table"
    PLOT = "plot"


class Run(Settings):
    """Workers."""

    timeout_s: Span = 60.0
    allocator: Literal["retain", "default"] = "retain"


class Example(Settings):
    """A command."""

    attention: Rows = rows("softmax")
    num_threads: Many[Annotated[int, Interval(ge=1, le=64)] | Literal["auto"]] = ("auto",)
    budget: Span | None = None
    limit: Budget | None = None
    run: Run = Run()
    causal: Many[bool] = (False,)
    plugins: Some[Name] = ()
    out: Folder = Field(default="results", validate_default=True)
    share: Annotated[float, Interval(gt=0.0, lt=1.0)] = 0.5
    even: Annotated[int, Field(multiple_of=2)] = 2
    dtype: Annotated[str, Word(lambda: ("float32", "float64"))] = "float32"
    canvas: dict[str, Any] = Field(default={"size": 24})
    seed: Many[Seed] = (0,)
    few: Annotated[Many[int], Field(min_length=2, max_length=3)] = (0, 1)
    name: Name = "a"
    runs: Some[Run] = ()
    by_name: dict[str, Run] = Field(default={})
    obtained: Annotated[Way, Field(strict=False)] = Field(default=Way.PLOT, alias="way")

    @model_validator(mode="after")
    def _is_possible(self) -> "Example":
        if self.even == 4:
            raise ValueError("even=4 beside this test is not possible.")
        return self


ROW = {"attention": {"softmax": {"mechanism": "softmax"}}}


def test_values_become_typed_and_keys_of_others_at_the_top_are_left_alone():
    given = {"num_threads": [2, 1, 2], "budget": "5m", "plugins": None, "out": "x", "share": 0.25}
    asked = Example.read(ROW | given | {"hydra": {}, "seed": 3})
    assert asked.attention == (
        AttentionEntry(label="softmax", mechanism="softmax", hyperparameters={}),
    )
    assert (asked.num_threads, asked.budget, asked.plugins, asked.seed) == ((2, 1), 300.0, (), (3,))
    assert asked.out.name == "x" and asked.run == Run() and asked.causal == (False,)
    assert isinstance(Example.read(ROW | {"budget": 1}).budget, float)


REFUSED = {
    "missing": ({"seed": None}, "seed has no value. Give one value or a list, e.g. seed=[...]."),
    "empty": ({"seed": []}, "seed=[] is empty. Give one value or more."),
    "list": ({"share": [0.1]}, "share is the list [0.1]; it takes one value."),
    "model_type": ({"run": 5}, "run is 5; it has keys of its own, e.g. run.KEY=VALUE."),
    "dict_type": ({"canvas": 5}, "canvas is 5; it has keys of its own, e.g. canvas.KEY=VALUE."),
    "int_type": ({"seed": "x"}, "seed is 'x'; it takes a whole number."),
    "int_from_float": ({"seed": [0, 1.5]}, "seed is 1.5; it takes a whole number."),
    "float_type": ({"share": "x"}, "share is 'x'; it takes a number."),
    "finite_number": ({"share": float("nan")}, "share is nan; it takes a finite number."),
    "bool_type": ({"causal": 1}, "causal is 1; it takes true or false."),
    "string_type": ({"name": 3}, "name is 3; it takes a name."),
    "string_too_short": ({"name": ""}, "name is ''; it takes a name."),
    "too_short": ({"few": [1]}, "few has 1 values; it takes 2 or more."),
    "too_long": ({"few": [1, 2, 3, 4]}, "few has 4 values; it takes 3 at most."),
    "is_instance_of": ({"out": 3}, "out is 3; it takes a path."),
    "greater_than_equal": ({"seed": -1}, "seed is -1; it must be 0 or more."),
    "less_than_equal": ({"seed": 2**32}, "seed is 4294967296; it must be 4294967295 or less."),
    "greater_than": ({"share": 0.0}, "share is 0.0; it must be more than 0."),
    "less_than": ({"share": 1.0}, "share is 1.0; it must be less than 1."),
    "multiple_of": ({"even": 3}, "even is 3; it must be a multiple of 2."),
    "word": (
        {"dtype": "float23"},
        "dtype=float23 is not known. Did you mean float32? Known: float32, float64.",
    ),
    "literal_error": (
        {"run": {"allocator": "retian"}},
        "run.allocator=retian is not known. Did you mean retain? Known: default, retain.",
    ),
    "enum": ({"way": "tabel"}, "way=tabel is not known. Did you mean table? Known: plot, table."),
    "extra_forbidden": (
        {"run": {"timeout": 3}},
        "run.timeout is not a key. Did you mean timeout_s? Known: allocator, timeout_s.",
    ),
}


def test_each_type_of_error_that_has_its_own_words_is_one_of_pydantics_and_has_a_test():
    assert REFUSED.keys() == settings._RULES.keys()
    own = {"empty", "list", "word"}
    assert REFUSED.keys() - own <= set(get_args(ErrorType))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        *REFUSED.values(),
        ({"attention": {}}, "attention is empty. Name one entry or more, e.g. attention=[softmax"),
        ({"seed": True}, "seed is True; it takes a whole number."),
        ({"num_threads": 0}, "num_threads is 0; it must be 1 or more."),
        ({"budget": "5 m"}, "budget is '5 m'; it takes a duration such as 90s, 5m or 1h."),
        ({"limit": "0s"}, "limit is '0s'; it must be more than 0."),
        ({"limit": "9999h"}, "limit is '9999h'; it must be 31622400 or less."),
        ({"limit": 5}, "limit is 5; it takes a time such as 90s, 30m or 2h."),
        ({"out": ""}, "out is ''; it takes a path."),
        ({"name": "a\nb"}, r"name is 'a\nb'; it takes a name on one line."),
        ({"name": "\x1b"}, r"name is '\x1b'; it takes a printable name of up to 4,096 characters."),
        ({"even": 4}, "even=4 beside this test is not possible."),
        ({"runs": [{}, {"timeout_s": "x"}]}, "runs[1].timeout_s is 'x'; it takes a duration"),
        ({"by_name": {"one": {"timeout_s": -1}}}, "by_name.one.timeout_s is -1; it must be 0"),
    ],
)
def test_a_wrong_value_is_refused_with_its_full_name_and_what_is_allowed(change, words):
    with pytest.raises(ConfigError) as caught:
        Example.read(ROW | change)
    assert words in str(caught.value)


def test_of_a_value_that_may_be_of_two_types_the_nearer_one_is_told_first():
    words = r"^num_threads=all is not known\. Known: auto\.\nIt takes a whole number\.$"
    with pytest.raises(ConfigError, match=words):
        Example.read(ROW | {"num_threads": "all"})


def test_a_section_by_itself_refuses_a_key_that_it_does_not_have():
    assert Run.section({"timeout_s": 1}, "run").timeout_s == 1
    with pytest.raises(ConfigError, match=r"^run\.timeout is not a key\. Did you mean timeout_s"):
        Run.section({"timeout": 1}, "run")
    with pytest.raises(ConfigError, match=r"^run is 3; it has keys of its own"):
        Run.section(3, "run")
