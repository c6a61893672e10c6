"""Words of a command line, and checks of values; settings are models of `bench.core.settings`."""

from __future__ import annotations

import os
import re
import shlex
import sys
import traceback
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.core.cli.errors import ConfigError, did_you_mean, print_error
from bench.core.cli.foreign import ctrl_c_by_any_signal
from bench.core.cli.limits import MAX_DEPTH, MAX_ITEMS, MAX_TEXT, is_plain
from bench.core.cli.streams import exit_code, make_streams_unbreakable


def words_and_options(
    given: Sequence[str], options: Collection[str], usage: str
) -> tuple[list[str], dict[str, str]]:
    """Split the command line of a command without YAML: plain words, and ``KEY=VALUE`` options.

    Raises:
        ConfigError: an unknown key, or one without a value or with two.
    """
    words: list[str] = []
    found: dict[str, str] = {}
    for one in given:
        if not one:  # such as an empty variable: Path("") would be the current folder
            raise ConfigError(f"A word is empty. Name what is meant. Usage: {usage}")
        key, equals, value = one.partition("=")
        if not equals:
            words.append(one)
        elif key in found:
            raise ConfigError(f"{key}= is given twice, as {found[key]} and as {value}. Keep one.")
        elif key in options and not value:
            raise ConfigError(f"{one} has no value. Give one, or leave out {key}. Usage: {usage}")
        elif key in options:
            found[key] = value
        else:
            raise ConfigError(f"{one} is not known. {did_you_mean(key, options)} Usage: {usage}")
    return words, found


def folder_of(options: Mapping[str, str], key: str, usual: str) -> Path:
    """The folder that an option names, else the usual one, which need not exist.

    Raises:
        ConfigError: the named one is not a folder.
    """
    if key in options and not os.path.isdir(options[key]):
        raise ConfigError(
            f"{key}={options[key]} is not a folder. Name another, or leave out {key}."
        )
    return Path(options.get(key, usual))


def flag_of(options: Mapping[str, str], key: str) -> bool:
    """Whether an option is true; it is false where it is not given.

    Raises:
        ConfigError: it is neither true nor false.
    """
    value = options.get(key, "false").lower()
    if value not in ("true", "false"):
        raise ConfigError(f"{key}={options[key]}: {key} is true or false.")
    return value == "true"


def run_words(main: Callable[[list[str]], int], argv: list[str] | None, usage: str) -> int:
    """Run a command without YAML on its words; exit codes are those of `bench.core.cli.command`."""
    make_streams_unbreakable()
    words = sys.argv[1:] if argv is None else argv
    if {"-h", "--help"} & set(words):
        print(usage)
        return exit_code(0)
    try:
        with ctrl_c_by_any_signal():
            return exit_code(main(words))
    except ConfigError as error:
        return print_error(error)
    except KeyboardInterrupt:
        return 130
    except Exception:
        traceback.print_exc()
        return 3


def text(name: str, value: Any) -> str:
    """Check a name: not empty, printable, on one line; returns it."""
    if isinstance(value, list):
        raise ConfigError(f"{name} is the list {value}; it takes one value.")
    if not isinstance(value, str) or not value:
        raise ConfigError(f"{name} is {value!r}; it takes a name.")
    storable(name, value)
    if not value.isprintable():
        raise ConfigError(f"{name} is {value!r}; it takes a name on one line.")
    return value


def storable(name: str, value: Any) -> None:
    """Refuse a value that no record could hold.

    Raises:
        ConfigError: a number in it is not finite, a text is not printable, or it is too long or too
            deeply nested.
    """
    if not is_plain(value):
        inside = value.items() if isinstance(value, Mapping) else ()
        for key, one in inside:
            storable(f"{name}.{key}", one)  # names the one at fault, if it is at fault alone
        raise ConfigError(
            f"{name} is {ascii(value)[:200]}, which no record can hold: it takes printable texts "
            f"of up to {MAX_TEXT:,} characters, finite numbers of 63 bits, and lists or mappings "
            f"of them of up to {MAX_ITEMS:,} items and {MAX_DEPTH} levels."
        )


def command_line(command: str, config: Mapping[str, Any], without: Collection[str] = ()) -> str:
    """The command line that gives this configuration, without where its files go.

    `without` are keys that only say where files go, besides ``out``.
    """
    rows = config.get("attention")  # a command without rows has none
    words = [f"attention=[{','.join(rows)}]"] if rows else []
    for key in dict.fromkeys(config.get("given", ())):
        value: Any = config
        for part in key.split("."):
            value = value.get(part) if isinstance(value, Mapping) else None
        if key == "task":
            value = list(config.get("task") or {})
        if key not in ("attention", "out", *without) and value is not None:
            words.append(f"{key}={as_typed(value)}")
    return shlex.join(["attnbench", command, *words])


def as_typed(value: Any) -> str:
    """A value as Hydra reads it back from a command line, e.g. ``[1,2]``, ``true`` or ``"a,b"``."""
    if isinstance(value, Mapping):
        return f"{{{','.join(f'{key}:{as_typed(one)}' for key, one in value.items())}}}"
    if isinstance(value, (list, tuple)):
        return f"[{','.join(map(as_typed, value))}]"
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    return _quoted_if_needed(value) if isinstance(value, str) else str(value)


def _quoted_if_needed(text: str) -> str:
    """A text in double quotes if Hydra would read another value from it alone, or none."""
    is_plain_text = re.fullmatch(r"[\w/.:@%+*?|$-]+( +[\w/.:@%+*?|$-]+)*", text, re.ASCII)
    if is_plain_text and not _is_number(text) and text.lower() not in ("true", "false", "null"):
        return text
    # Hydra takes a backslash for itself unless a quote follows, and the end of the text is one.
    escaped = re.sub(r'(\\*)("|$)', lambda found: 2 * found[1] + found[2].replace('"', '\\"'), text)
    return f'"{escaped}"'


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
