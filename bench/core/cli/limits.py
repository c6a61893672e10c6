"""Allowed values in a record: ranges and closed sets as types, and the one check of them.

A dataclass is annotated with these, as ``seq_len: Size``, which is an ``int`` to a type checker.
`checked` builds one from what foreign JSON gave, and names the first field that is out of bounds.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, fields
from datetime import datetime
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, NotRequired, TypeVar, get_type_hints

from annotated_types import Interval, Len
from typing_extensions import TypedDict

from bench.core.cli.texts import is_visible

if TYPE_CHECKING:
    from pydantic import TypeAdapter

T = TypeVar("T")

MAX_LINE_BYTES = 2**26
"""Longest line of a store, in bytes: a million rounds with their reference's take half of it."""
MAX_DEPTH = 16
"""Deepest nesting of lists and objects."""
MAX_ITEMS = 10_000
"""Largest number of items of a setting or a fact that is a list or an object."""
MAX_TEXT = 4096
"""Longest name, or fact about a machine, in characters; as long as a path may be."""
MAX_SIZE = 2**31 - 1
"""Largest dimension: torch's kernels often count in 32 bits."""


@dataclass(frozen=True)
class Rule:
    """A rule that is not an interval, with words that end the sentence "it must be ..."."""

    hold: Callable[[Any], bool]
    be: str

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> Any:
        """Pydantic's hook for the rule of an annotation."""
        from pydantic_core import core_schema

        def check(value: Any) -> Any:
            if not self.hold(value):
                raise ValueError(f"it must be {self.be}")
            return value

        return core_schema.no_info_after_validator_function(check, handler(source))


def one_of(*words: str) -> Rule:
    """A closed set of words."""
    return Rule(
        frozenset(words).__contains__, f"one of {', '.join(word or '“”' for word in words)}"
    )


def like(pattern: str, words: str) -> Rule:
    """A text that fully matches a pattern; `words` describe it."""
    whole = re.compile(pattern)
    return Rule(lambda text: whole.fullmatch(text) is not None, words)


def is_plain(value: Any, depth: int = MAX_DEPTH) -> bool:
    """Whether a setting of any type is bounded in depth, length and digits, and can be shown."""
    if isinstance(value, str):
        return len(value) <= MAX_TEXT and is_visible(value)
    if isinstance(value, (dict, list, tuple)):
        inner = [*value, *value.values()] if isinstance(value, dict) else value
        return depth > 0 and len(value) <= MAX_ITEMS and all(is_plain(v, depth - 1) for v in inner)
    if isinstance(value, int):
        return abs(value) < 2**63
    return value is None or (isinstance(value, float) and math.isfinite(value))


Size = Annotated[int, Interval(ge=1, le=MAX_SIZE)]
Count = Annotated[int, Interval(ge=0, le=2**63 - 1)]
Flops = Annotated[int, Interval(ge=0, le=10**31)]
Number = Annotated[float, Interval(ge=-1e100, le=1e100)]
Amount = Annotated[float, Interval(ge=0, le=1e100)]
"""A number of which the square, which intervals need, is still finite."""
Rate = Annotated[float, Interval(gt=0, le=1e300)]
Pace = Annotated[float, Interval(ge=1e-3, le=1e30)]
"""Rate of a machine, in units a second; with less, the seconds of a call would overflow."""
Seconds = Annotated[float, Interval(ge=1e-12, le=1e9)]
"""Duration of a call, in seconds; with a smaller one, rates would overflow."""
Duration = Annotated[float, Interval(ge=0, le=1e9)]
Share = Annotated[float, Interval(ge=0, le=1)]
Text = Annotated[str, Len(0, MAX_TEXT), Rule(is_visible, "printable")]
Name = Annotated[str, Len(1, MAX_TEXT), Rule(str.isprintable, "printable and on one line")]
Digest = Annotated[str, like(r"[0-9a-f]{16}|", "16 hexadecimal digits")]
_INSTANT = re.compile(r"|\d{4}-[01]\d-[0-3]\dT[0-2]\d:[0-5]\d:[0-6]\d(\.\d{1,9})?(Z|\+00:00)")


def _is_instant(text: str) -> bool:
    try:
        return not text or bool(_INSTANT.fullmatch(text) and datetime.fromisoformat(text))
    except ValueError:  # as of the 39th of a month
        return False


Instant = Annotated[str, Rule(_is_instant, "a time in UTC, such as 2026-01-31T12:00:00Z")]
Plain = Annotated[
    dict[str, Any],
    Rule(is_plain, f"printable, finite, and within {MAX_DEPTH} levels and {MAX_ITEMS:,} items"),
]


def checked(kind: type[T], values: Mapping[str, Any]) -> T:
    """Build a dataclass from the values that it has a field for, checked by its annotations.

    Raises:
        ValueError: names the first field that is missing or out of bounds, and its value.
    """
    rules = _fields_of(kind)  # type: ignore[arg-type]
    return kind(**_validated(rules, values))


def check_shape(shape: Any, values: Any) -> None:
    """Refuse what is not of a type, such as a `TypedDict`.

    Raises:
        ValueError: as `checked`.
    """
    _validated(adapter(shape), values)


def from_json(kinds: Sequence[Any], row: bytes) -> Any:
    """An object of the first of some kinds that a line of JSON fits.

    Raises:
        ValueError: it fits none; the words are those of the kind that fits best.
    """
    try:
        flat = parsed(row.decode())  # refuses a name given twice, and NaN
    except (json.JSONDecodeError, UnicodeDecodeError):
        flat = None
    if not isinstance(flat, dict):
        raise ValueError("it is no JSON object")
    from pydantic import ValidationError

    wrong = []
    for kind in kinds:
        try:
            return adapter(kind).validate_json(row, strict=True)
        except ValidationError as error:
            wrong.append(error.errors(include_url=False))

    def distance(errors: Sequence[Any]) -> tuple[int, int]:
        return sum(error["type"] == "missing" for error in errors), len(errors)

    raise ValueError(_in_words(min(wrong, key=distance)[0]))


def parsed(text: str) -> Any:
    """Parse JSON, but refuse what parsers read differently: a name given twice, NaN, Infinity.

    Raises:
        ValueError: it is no such JSON, or nested too deeply to be read.
    """
    try:
        return json.loads(text, object_pairs_hook=_no_name_twice, parse_constant=_no_constant)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _no_name_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in found if names.count(name) > 1)
        raise ValueError(f"{twice[:80]!r} is given twice")
    return found


def _no_constant(word: str) -> NoReturn:
    raise ValueError(f"{word} is not a number")


def read_json(shape: Any, text: bytes) -> Any:
    """Parse JSON as a type, such as a `TypedDict`; lists pass for tuples, and NaN is allowed.

    Raises:
        ValueError: as `checked`, or it is no JSON.
    """
    return _validated(adapter(shape), text, is_json=True)


def _validated(rules: TypeAdapter[Any], values: Any, *, is_json: bool = False) -> Any:
    from pydantic import ValidationError

    try:
        return (rules.validate_json if is_json else rules.validate_python)(values, strict=True)
    except ValidationError as error:
        raise ValueError(_in_words(error.errors(include_url=False)[0])) from None


@cache
def adapter(shape: Any) -> TypeAdapter[Any]:
    """Pydantic's rules of a type: a dataclass, a `TypedDict`, a union."""
    from pydantic import TypeAdapter

    return TypeAdapter(shape)


@cache
def _fields_of(kind: Any) -> TypeAdapter[Any]:
    """Pydantic's rules of a dataclass's fields, of which those with a default may be missing."""
    hints = get_type_hints(kind, include_extras=True)
    types = {f.name: hints[f.name] if _is_needed(f) else NotRequired[hints[f.name]] for f in
             fields(kind)}  # fmt: skip
    return adapter(TypedDict(kind.__name__, types))  # type: ignore[operator]


def _is_needed(field: Field[Any]) -> bool:
    return field.default is MISSING and field.default_factory is MISSING


def _in_words(error: Any) -> str:
    """As ``accuracy is 2.0; it should be less than or equal to 1``."""
    where = ".".join(str(part) for part in error["loc"]) or "it"
    if error["type"] == "missing":
        return f"{where} is missing"
    rule = error["msg"].removeprefix("Value error, ").replace("Input should", "it should")
    return f"{ascii(where)[1:-1]} is {ascii(error['input'])[:80]}; {rule}"
