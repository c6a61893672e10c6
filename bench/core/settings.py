"""Settings of a command as pydantic models: defaults, ranges, help and errors stand at the field.

Hydra composes and pydantic checks: `read` makes the model of what Hydra composed, or raises a
`ConfigError` with a line for each wrong key.
Commands import `Field` and `model_validator` from here, not from pydantic.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Annotated, Any, Self, TypeVar, get_args, get_origin, get_type_hints

from annotated_types import Interval as Interval
from annotated_types import Len
from pydantic import AfterValidator as AfterValidator
from pydantic import BaseModel, ConfigDict, ValidationError, create_model
from pydantic import BeforeValidator as BeforeValidator
from pydantic import Field as Field
from pydantic import field_validator as field_validator
from pydantic import model_validator as model_validator
from pydantic.fields import FieldInfo as FieldInfo
from pydantic_core import PydanticCustomError, core_schema

from bench.core.cell import MAX_SEED
from bench.core.cli.entries import AttentionEntry, read_attention_entries
from bench.core.cli.errors import ConfigError, did_you_mean
from bench.core.cli.limits import MAX_TEXT, is_plain

T = TypeVar("T")


class Settings(BaseModel):
    """Base of all settings. A field's docstring is its help; its default is Hydra's.

    What a validator raises as ``ValueError("it ...")`` ends the sentence "KEY is VALUE; it ...";
    other words are a sentence by themselves. A ConfigError of a validator passes as it is.
    """

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        strict=True,
        allow_inf_nan=False,
        use_attribute_docstrings=True,
        validate_default=True,
        arbitrary_types_allowed=True,
    )

    @classmethod
    def of_types(cls, name: str, types: Mapping[str, Any]) -> type[Settings]:
        """Make a model with a required key of each name."""
        keys: dict[str, Any] = {key: (kind, ...) for key, kind in types.items()}
        return create_model(name, __base__=cls, **keys)

    @classmethod
    def read(cls, composed: Mapping[str, Any], prefix: str = "") -> Self:
        """Check what Hydra composed, or a section of it; unknown keys at the top are ignored.

        `prefix` is a section's name and a dot, so that messages give a key's full name.

        Raises:
            ConfigError: names each key that is wrong, its value and what is allowed.
        """
        own = {
            key: composed.get(key)
            for key, field in _keys(cls).items()
            if key in composed or group_of(field)  # a group without a choice is absent
        }
        return cls._checked(own, prefix)

    @classmethod
    def section(cls, given: Any, name: str) -> Self:
        """Check a section by itself; unknown keys are refused.

        Raises:
            ConfigError: as `read`.
        """
        if not isinstance(given, Mapping):
            raise ConfigError(_RULES["model_type"].format(name=name, value=repr(given)))
        return cls._checked(dict(given), f"{name}." if name else "")

    def but(self, **changes: Any) -> Self:
        """The same settings with some changed, which are not checked again."""
        return self.model_copy(update=changes)

    @classmethod
    def _checked(cls, own: dict[str, Any], prefix: str) -> Self:
        try:
            return cls.model_validate(own)
        except ValidationError as error:
            found = error.errors(include_url=False)
        raise ConfigError("\n".join(dict.fromkeys(_sentences(cls, found, prefix))))


def section_as(kind: type[T], given: Any, name: str) -> T:
    """Build a dataclass from a section whose keys are its fields, checked by its annotations.

    Raises:
        ConfigError: as `Settings.read`.
    """
    if isinstance(given, kind):
        return given
    types = get_type_hints(kind, include_extras=True)
    usual = {f.name: f.default for f in fields(kind) if f.default is not MISSING}  # type: ignore[arg-type]
    full = usual | given if isinstance(given, dict) else given
    found = Settings.of_types(kind.__name__, types).section(full, name)
    return kind(**{key: getattr(found, key) for key in types})


# --- types of fields ----------------------------------------------------------------------------


@dataclass(frozen=True)
class Word:
    """One of some names that are looked up when a value is checked, such as those of a registry."""

    known: Callable[[], Collection[str]]

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> Any:
        """Pydantic's hook for the rule of an annotation."""

        def check(value: str) -> str:
            if value not in (known := self.known()):
                raise PydanticCustomError("word", "not known", {"known": sorted(known)})
            return value

        return core_schema.no_info_after_validator_function(check, handler(source))


@dataclass(frozen=True)
class Group:
    """Mark of a field that Hydra composes from ``conf/<name>/*.yaml``; its default names files."""

    name: str


def _listed(value: Any) -> tuple[Any, ...]:
    return tuple(value) if isinstance(value, (list, tuple)) else (value,)


def as_tuple(value: Any) -> tuple[Any, ...]:
    """A list, or one value, as a tuple; None is an empty one."""
    return () if value is None else _listed(value)


def _once(values: tuple[T, ...]) -> tuple[T, ...]:
    return tuple(dict.fromkeys(values))


def _shown(value: str) -> str:
    if not is_plain(value):
        raise ValueError(f"it takes a printable name of up to {MAX_TEXT:,} characters")
    if not value.isprintable():
        raise ValueError("it takes a name on one line")
    return value


_SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0}


def _seconds(value: Any) -> Any:
    if isinstance(value, str):
        if not (parts := re.fullmatch(r"(\d+(?:\.\d+)?)([smh])", value)):
            raise ValueError("it takes a duration such as 90s, 5m or 1h")
        return float(parts[1]) * _SECONDS[parts[2]]
    return value


def _with_unit(value: Any) -> Any:
    """Refuse a number without a unit: 30 could be seconds or minutes."""
    if not isinstance(value, str):
        raise ValueError("it takes a time such as 90s, 30m or 2h")
    return value


_UNITS = {"KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}


def _bytes(value: Any) -> Any:
    parts = re.fullmatch(r"(\d+(?:\.\d+)?)([KMGT]iB)", value) if isinstance(value, str) else None
    if parts is None:
        raise ValueError("it takes a size such as 512MiB or 24GiB")
    return int(float(parts[1]) * _UNITS[parts[2]])


def _path(value: Any) -> Any:
    return Path(_shown(value)) if value and isinstance(value, str) else value


def _rows(given: Any) -> tuple[AttentionEntry, ...]:
    if found := tuple(read_attention_entries(given)):
        return found
    raise ValueError("attention is empty. Name one entry or more, e.g. attention=[softmax,nala].")


Many = Annotated[tuple[T, ...], BeforeValidator(_listed), AfterValidator(_once), Len(1)]
"""One value or a list; duplicates are removed."""
Some = Annotated[tuple[T, ...], BeforeValidator(as_tuple), AfterValidator(_once)]
"""As `Many`; may be empty, or null."""
Span = Annotated[float, Interval(ge=0.0), BeforeValidator(_seconds)]
"""Seconds, from a number of them, or from ``90s``, ``5m``, ``1h``."""
Budget = Annotated[Span, Interval(gt=0, le=366 * 86_400), BeforeValidator(_with_unit)]
"""Seconds that a command may take, from ``90s``, ``5m``, ``1h``."""
Bytes = Annotated[int, Interval(ge=1, le=2**60), BeforeValidator(_bytes)]
"""Bytes, from ``512MiB``, ``24GiB``."""
Name = Annotated[str, Len(1), AfterValidator(_shown)]
"""A name on one line."""
Folder = Annotated[Path, BeforeValidator(_path)]
"""Path of a folder or of a file."""
Seed = Annotated[int, Interval(ge=0, le=MAX_SEED)]
"""Seed of random numbers."""
Rows = Annotated[tuple[AttentionEntry, ...], Group("attention"), BeforeValidator(_rows)]
"""Rows of the leaderboard."""
SomeRows = Annotated[
    tuple[AttentionEntry, ...],
    Group("attention"),
    BeforeValidator(lambda given: tuple(read_attention_entries(given))),
]
"""As `Rows`; may be empty."""


def chosen(names: str | tuple[str, ...]) -> Any:
    """The default of a `Group`: a name in its folder, or some of them."""
    return Field(default=names, validate_default=False)


def rows(*names: str) -> Any:
    """The default of `Rows` or `SomeRows`: their labels."""
    return chosen(names)


# --- errors -------------------------------------------------------------------------------------

_RULES = {
    "missing": "{name} has no value. Give one value{or_list}.",
    "empty": "{name}=[] is empty. Give one value or more.",
    "list": "{name} is the list {value}; it takes one value.",
    "model_type": "{name} is {value}; it has keys of its own, e.g. {name}.KEY=VALUE.",
    "dict_type": "{name} is {value}; it has keys of its own, e.g. {name}.KEY=VALUE.",
    "int_type": "{name} is {value}; it takes a whole number.",
    "int_from_float": "{name} is {value}; it takes a whole number.",
    "float_type": "{name} is {value}; it takes a number.",
    "finite_number": "{name} is {value}; it takes a finite number.",
    "bool_type": "{name} is {value}; it takes true or false.",
    "string_type": "{name} is {value}; it takes a name.",
    "string_too_short": "{name} is {value}; it takes a name.",
    "too_short": "{name} has {actual_length} values; it takes {min_length} or more.",
    "too_long": "{name} has {actual_length} values; it takes {max_length} at most.",
    "is_instance_of": "{name} is {value}; it takes a path.",
    "greater_than_equal": "{name} is {value}; it must be {ge} or more.",
    "less_than_equal": "{name} is {value}; it must be {le} or less.",
    "greater_than": "{name} is {value}; it must be more than {gt}.",
    "less_than": "{name} is {value}; it must be less than {lt}.",
    "multiple_of": "{name} is {value}; it must be a multiple of {multiple_of}.",
    "word": "{name}={text} is not known. {nearest}",
    "literal_error": "{name}={text} is not known. {nearest}",
    "enum": "{name}={text} is not known. {nearest}",
    "extra_forbidden": "{name} is not a key. {nearest}",
}
"""A sentence for each of pydantic's error types; other sentences end with pydantic's own words."""

_LENGTHS = ("too_short", "too_long")
_UNKNOWN = ("word", "literal_error", "enum")

_OTHER_TYPE = frozenset(kind for kind in _RULES if kind.endswith("_type")) | {"is_instance_of"}
"""Errors that say only that a value is of another type than one branch of a union."""


@dataclass(frozen=True)
class _Place:
    """Location of an error.

    Attributes:
        name: of the key in full, such as ``run.timeout_s`` or ``cells[2].entry``.
        owner: model that has the key, or should have it.
        field: the model's field; None if it has no such key.
    """

    name: str
    owner: type[BaseModel]
    field: FieldInfo | None


def _sentences(cls: type[BaseModel], errors: Sequence[Any], prefix: str) -> Iterator[str]:
    by_name: dict[str, tuple[_Place, list[Any]]] = {}
    for one in errors:
        place = _place(cls, one, prefix)
        by_name.setdefault(place.name, (place, []))[1].append(one)
    for place, own in by_name.values():
        # Each branch of a union is an error: those about the value say more than about its type.
        general = [one for one in own if _is_of_another_type(one)]
        telling = [one for one in own if one not in general]
        for one in telling or own:
            yield _sentence(place, one)
        if any(one["type"] in _UNKNOWN for one in telling):
            for one in general:
                yield f"It takes {_RULES[one['type']].partition('; it takes ')[2]}"


def _is_of_another_type(error: Any) -> bool:
    is_word = isinstance(error["input"], str)
    return error["type"] in _OTHER_TYPE or (error["type"] == "literal_error" and not is_word)


def _place(cls: type[BaseModel], error: Any, prefix: str) -> _Place:
    """Key at an error's location, which also names branches of unions, and indices."""
    name, owner, field = prefix.rstrip("."), cls, None
    model: type[BaseModel] | None = cls
    is_mapping = False
    for part in error["loc"]:
        if is_mapping:
            name, is_mapping = f"{name}.{part}", False
        elif isinstance(part, int):
            name += f"[{part}]" if model is not None else ""
        elif model is not None and part in (keys := _keys(model)):
            owner, field = model, keys[part]
            name = f"{name}.{part}" if name else part
            model = _model_in(field.annotation)
            is_mapping = get_origin(field.annotation) in (dict, Mapping)
    if error["type"] == "extra_forbidden":
        owner, field, name = model or owner, None, f"{name}.{error['loc'][-1]}".lstrip(".")
    return _Place(name, owner, field)


def _keys(model: type[BaseModel]) -> dict[str, FieldInfo]:
    """Fields by the keys that set them."""
    return {field.alias or name: field for name, field in model.model_fields.items()}


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """The model that a field holds: itself, or in a union, a tuple or a mapping."""
    for one in (annotation, *get_args(annotation)):
        if isinstance(one, type) and issubclass(one, BaseModel):
            return one
    return None


def _sentence(place: _Place, error: Any) -> str:
    kind, value, name = error["type"], error["input"], place.name
    facts = dict(error.get("ctx", {}))
    if kind == "value_error":
        words = str(facts["error"])
        return f"{name} is {_value(value)}; {words}." if words.startswith("it ") else words
    if kind == "extra_forbidden":
        facts["nearest"] = did_you_mean(str(error["loc"][-1]), _keys(place.owner))
    elif kind == "missing" or value is None:
        kind = "missing"
    elif isinstance(value, (list, tuple)):
        kind = kind if value and kind in _LENGTHS else "list" if value else "empty"
    elif kind in _UNKNOWN:
        known = facts.get("known") or re.findall(r"'([^']*)'", facts["expected"])
        facts["nearest"] = did_you_mean(str(value), known)
    facts["or_list"] = f" or a list, e.g. {name}=[...]" if takes_many(place.field) else ""
    facts |= {key: f"{fact:g}" for key, fact in facts.items() if isinstance(fact, float)}
    facts |= {"name": name, "value": _value(value), "text": value}
    if kind in _RULES:
        return _RULES[kind].format(**facts)
    rule = error["msg"].replace("Input should", "it should")
    return f"{name} is {_value(value)}; {rule}."


def _value(value: Any) -> str:
    return ascii(value)[:200] if isinstance(value, str) and not is_plain(value) else repr(value)


def takes_many(field: FieldInfo | None) -> bool:
    """Whether a field is a `Many`, or another tuple that has to have some items."""
    return (
        field is not None
        and any(isinstance(m, Len) for m in field.metadata)
        and (get_origin(field.annotation) is tuple)
    )


def group_of(field: FieldInfo) -> str | None:
    """The group of conf/ that a field is composed from, if it is."""
    return next((mark.name for mark in field.metadata if isinstance(mark, Group)), None)
