"""Settings of all commands: a value that a field's type excludes is refused by name and bound.

What the words are for each kind of error is tested in core/test_settings.py, and what no single
field can say beside each command, as are the settings of the gate.
"""

import importlib
import math
from dataclasses import dataclass
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import pytest
from annotated_types import Ge, Gt, Interval, Le, Lt
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.core.cli.errors import ConfigError
from bench.core.settings import Settings

MODULES = (
    *("bench.report", "bench.measuring.config", "bench.publishing.config"),
    *("bench.studies.ceilings", "bench.studies.hybrids", "bench.studies.launches.study"),
    *("bench.studies.convert.study", "bench.studies.explain.study", "bench.studies.text.study"),
    "bench.studies.rates.search",
    "bench.studies.advise.evidence",
    *("bench.studies.diagnostics.study", "bench.studies.reproduce.settings"),
    *("bench.studies.selftest.study", "bench.studies.verify.settings"),
)
MODELS = [
    model
    for name in MODULES
    for model in vars(importlib.import_module(name)).values()
    if isinstance(model, type) and issubclass(model, Settings) and model.__module__ == name
]


@dataclass(frozen=True)
class Number:
    """Bounds of a number that a field takes; those of an interval without an end are infinite."""

    model: type[Settings]
    key: str
    is_whole: bool
    low: float = -math.inf
    high: float = math.inf
    excludes_low: bool = False
    excludes_high: bool = False

    def beyond(self) -> st.SearchStrategy[float]:
        """Numbers below and above."""
        sides = []
        kind = st.integers if self.is_whole else floats
        if self.low > -math.inf:
            sides.append(kind(max_value=self.low - (0 if self.excludes_low else 1)))
        if self.high < math.inf:
            sides.append(kind(min_value=self.high + (0 if self.excludes_high else 1)))
        return st.one_of(sides)


def floats(**bounds):
    return st.floats(allow_nan=False, allow_infinity=False, **bounds)


def branches(annotation, metadata=()):
    """(type, metadata) of each alternative that a field takes, and of the items of a list."""
    origin, args = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        yield from branches(args[0], (*metadata, *args[1:]))
    elif origin is tuple:
        yield from branches(args[0])
    elif origin in (Union, UnionType):
        for one in args:
            yield from branches(one, metadata)
    else:
        yield annotation, metadata


def interval(metadata):
    found: dict[str, Any] = {}
    for mark in metadata:
        for one in mark if isinstance(mark, Interval) else [mark]:
            if isinstance(one, (Ge, Gt)):
                found["low"] = one.ge if isinstance(one, Ge) else one.gt
                found["excludes_low"] = isinstance(one, Gt)
            elif isinstance(one, (Le, Lt)):
                found["high"] = one.le if isinstance(one, Le) else one.lt
                found["excludes_high"] = isinstance(one, Lt)
    return found


FIELDS = [
    (model, field.alias or key, list(branches(field.annotation, tuple(field.metadata))))
    for model in MODELS
    for key, field in model.model_fields.items()
]
NUMBERS = [
    Number(model, key, kind is int, **bounds)
    for model, key, kinds in FIELDS
    for kind, metadata in kinds
    if kind in (int, float) and len(kinds) == 1 and (bounds := interval(metadata))
    # A budget needs a unit; an image's size is looked at where a model is measured.
    if key not in ("budget", "image_size")
]
FLAGS = [(model, key) for model, key, kinds in FIELDS if [kind for kind, _ in kinds] == [bool]]
WORDS = [
    (model, key)
    for model, key, kinds in FIELDS
    if kinds and all(get_origin(kind) is Literal or kind is NoneType for kind, _ in kinds)
]


def refusal(model, key, value):
    """Lines of what is said of a value."""
    with pytest.raises(ConfigError) as caught:
        model.section({key: value}, "")
    return str(caught.value).splitlines()


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_a_number_out_of_its_bounds_is_refused_by_name_value_and_bound(data):
    number = data.draw(st.sampled_from(NUMBERS))
    value = data.draw(number.beyond())
    said = refusal(number.model, number.key, value)
    assert any(line.startswith(f"{number.key} is {value}; it must be ") for line in said), said


@pytest.mark.parametrize("value", ["perhaps", 1])
def test_what_is_neither_true_nor_false_is_refused_by_name(value):
    for model, key in FLAGS:
        assert f"{key} is {value!r}; it takes true or false." in refusal(model, key, value)


def test_a_word_that_is_not_known_is_refused_with_those_that_are():
    for model, key in WORDS:
        said = "\n".join(refusal(model, key, "nonsense"))
        assert f"{key}=nonsense is not known. " in said and "Known: " in said, said


def test_a_key_that_is_none_is_refused_with_the_nearest():
    for model in MODELS:
        key = next(iter(model.model_fields))
        said = "\n".join(refusal(model, f"{key}x", 1))
        assert f"{key}x is not a key. Did you mean " in said, said


def test_the_fields_of_all_commands_are_there():
    assert len(MODELS) > 15 and len(NUMBERS) > 40 and len(FLAGS) > 10 and len(WORDS) > 5
