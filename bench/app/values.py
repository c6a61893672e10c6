"""Read the values of a composed configuration: what is wrong is refused by the name of its key.

`Values` is a section of the configuration; a reader such as `whole(low=1)` says what one value has
to be. ``values.one("budget_s", number(low=0.0))`` then gives a float, or a `ConfigError` that names
the key, what was given and what is allowed.
"""

from __future__ import annotations

import re
import sys
import traceback
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from bench.app.errors import ConfigError, did_you_mean, tell
from bench.app.limits import MAX_DEPTH, MAX_ITEMS, MAX_TEXT, is_plain
from bench.app.streams import exit_code, make_streams_unbreakable

T = TypeVar("T")

Reader = Callable[[str, Any], T]
"""From a key's full name and its value to the typed value; raises a ConfigError."""


@dataclass(frozen=True)
class Values:
    """The keys of a configuration, or of one of its sections.

    Attributes:
        given: plain values, lists and dictionaries.
        prefix: of a section its name and a dot, so that messages give a key's full name.
    """

    given: Mapping[str, Any]
    prefix: str = ""

    def one(self, key: str, read: Reader[T]) -> T:
        """A key that takes one value."""
        return read(self.prefix + key, self.given.get(key))

    def optional(self, key: str, read: Reader[T]) -> T | None:
        """A key that takes one value, or null."""
        return None if self.given.get(key) is None else self.one(key, read)

    def some(self, key: str, read: Reader[T], *, or_none: bool = False) -> tuple[T, ...]:
        """A key that takes a list, or one value; each value once.

        Args:
            key: its name.
            read: reads each value.
            or_none: an empty list, or null, is allowed as well.
        """
        given = self.given.get(key)
        if given is None and or_none:
            return ()
        values = given if isinstance(given, (list, tuple)) else [given]
        name = self.prefix + key
        if not values and not or_none:
            raise ConfigError(f"{name}=[] is empty. Give one value or more.")
        if None in values:
            raise ConfigError(f"{name} has no value. Give one value or a list, e.g. {name}=[...].")
        return tuple(dict.fromkeys(read(name, value) for value in values))

    def section(self, key: str, known: Iterable[str] | None = None) -> Values:
        """The keys below a key; none where it is null.

        Args:
            key: its name.
            known: the keys that it may have; None leaves that to the caller.
        """
        given = {} if self.given.get(key) is None else self.given[key]
        name = self.prefix + key
        if not isinstance(given, Mapping):
            raise ConfigError(
                f"{name} is {given!r}; it has keys of its own, e.g. {name}.KEY=VALUE."
            )
        names = list(known) if known is not None else [str(k) for k in given]
        for unknown in (str(k) for k in given if k not in names):
            raise ConfigError(f"{name}.{unknown} is not a key. {did_you_mean(unknown, names)}")
        return Values(given, f"{name}.")


def words_and_options(
    given: Sequence[str], options: Collection[str], usage: str
) -> tuple[list[str], dict[str, str]]:
    """Split the command line of a command without YAML: plain words, and ``KEY=VALUE`` options.

    Args:
        given: as typed.
        options: keys that may be given.
        usage: of the command, for the message.

    Raises:
        ConfigError: an unknown key, or one without a value.
    """
    words: list[str] = []
    found: dict[str, str] = {}
    for one in given:
        if not one:  # such as an empty variable: Path("") would be the current folder
            raise ConfigError(f"A word is empty. Name what is meant. Usage: {usage}")
        key, equals, value = one.partition("=")
        if not equals:
            words.append(one)
        elif key in options and value:
            found[key] = value
        else:
            raise ConfigError(f"{one} is not known. {did_you_mean(key, options)} Usage: {usage}")
    return words, found


def run_words(main: Callable[[list[str]], int], argv: list[str] | None, usage: str) -> int:
    """Run a command without YAML on its words; exit codes are those of `bench.app.command`.

    Args:
        main: takes the words, and returns the exit code.
        argv: the words; those of this process if None.
        usage: what ``--help`` prints.
    """
    make_streams_unbreakable()
    words = sys.argv[1:] if argv is None else argv
    if {"-h", "--help"} & set(words):
        print(usage)
        return exit_code(0)
    try:
        return exit_code(main(words))
    except ConfigError as error:
        return tell(error)
    except KeyboardInterrupt:
        return 130
    except Exception:
        traceback.print_exc()
        return 3


def text(name: str, value: Any) -> str:
    """A name; not an empty one."""
    found = _of_type(name, value, str, "a name")
    storable(name, found)
    if not found.isprintable():
        raise ConfigError(f"{name} is {found!r}; it takes a name on one line.")
    return found


def flag(name: str, value: Any) -> bool:
    """``true`` or ``false``."""
    return _of_type(name, value, bool, "true or false")


def whole(low: int, high: int | None = None) -> Reader[int]:
    """A whole number within bounds."""

    def read(name: str, value: Any) -> int:
        return _within(name, _of_type(name, value, int, "a whole number"), low, high)

    return read


def number(low: float, high: float | None = None) -> Reader[float]:
    """A finite number within bounds."""

    def read(name: str, value: Any) -> float:
        is_whole = isinstance(value, int) and not isinstance(value, bool)
        found = value if is_whole else _of_type(name, value, float, "a number")
        finite(name, found)
        return float(_within(name, found, low, high))

    return read


def finite(name: str, value: Any) -> None:
    """Refuse NaN and infinities, also inside of a list or a mapping; no record could hold them."""
    if isinstance(value, Mapping):
        for key, one in value.items():
            finite(f"{name}.{key}", one)
    elif isinstance(value, (list, tuple)):
        for one in value:
            finite(name, one)
    elif isinstance(value, (int, float)) and not -sys.float_info.max <= value <= sys.float_info.max:
        raise ConfigError(f"{name} is {value!r}; it takes a finite number.")


def storable(name: str, value: Any) -> None:
    """Refuse what no record could hold: besides what `finite` refuses, unprintable texts and such.

    Raises:
        ConfigError: also for what is nested too deeply, or too long.
    """
    finite(name, value)
    if not is_plain(value):
        raise ConfigError(
            f"{name} is {ascii(value)[:200]}, which no record can hold: it takes printable texts "
            f"of up to {MAX_TEXT:,} characters, numbers of 63 bits, and lists or mappings of them "
            f"of up to {MAX_ITEMS:,} items and {MAX_DEPTH} levels."
        )


def word(known: Collection[str]) -> Reader[str]:
    """One of some words."""

    def read(name: str, value: Any) -> str:
        found = text(name, value)
        if found not in known:
            raise ConfigError(f"{name}={found} is not known. {did_you_mean(found, known)}")
        return found

    return read


_SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0}


def duration(name: str, value: Any) -> float:
    """Seconds, from a number of them or from words such as ``90s``, ``5m`` and ``1h``."""
    if isinstance(value, str) and (parts := re.fullmatch(r"(\d+(?:\.\d+)?)([smh])", value)):
        value = float(parts[1]) * _SECONDS[parts[2]]
    if isinstance(value, str):
        raise ConfigError(f"{name} is {value!r}; it takes a duration such as 90s, 5m or 1h.")
    return number(low=0.0)(name, value)


N = TypeVar("N", int, float)


def _within(name: str, value: N, low: float, high: float | None) -> N:
    if value < low:
        raise ConfigError(f"{name} is {value!r}; it must be {low} or more.")
    if high is not None and value > high:
        bound = f"{high:g}" if isinstance(high, float) else high
        raise ConfigError(f"{name} is {value!r}; it must be {bound} or less.")
    return value


def _of_type(name: str, value: Any, kind: type[T], takes: str) -> T:
    if isinstance(value, list):
        raise ConfigError(f"{name} is the list {value}; it takes one value.")
    is_flag = isinstance(value, bool) and kind is not bool  # True is an int to Python
    if not isinstance(value, kind) or is_flag or value == "":
        raise ConfigError(f"{name} is {value!r}; it takes {takes}.")
    return value


def command_line(command: str, config: Mapping[str, Any], without: Collection[str] = ()) -> str:
    """The words that give this configuration, but for where its files go.

    Args:
        command: its name, as ``diagnose``.
        config: composed; ``given`` has the keys that were typed.
        without: keys that only say where files go, besides ``out``.
    """
    words = [f"attention=[{','.join(config['attention'])}]"]
    for key in dict.fromkeys(config.get("given", ())):
        value: Any = config
        for part in key.split("."):
            value = value.get(part) if isinstance(value, Mapping) else None
        if key == "task":
            value = list(config.get("task") or {})
        if key not in ("attention", "out", *without) and value is not None:
            words.append(f"{key}={_typed(value)}")
    return f"python -m bench.{command} {' '.join(words)}"


def _typed(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return f"[{','.join(map(_typed, value))}]"
    return str(value).lower() if isinstance(value, bool) else str(value)
