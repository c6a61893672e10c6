"""Names that a config group can be given: our YAMLs, rows without one, and the user's own.

A row without a YAML is a mechanism with its constructor's defaults. Mechanisms, also those of
plugins, are read from their source; nothing is imported.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

from bench.core.cli.errors import ConfigError, did_you_mean
from bench.core.cli.usage import Root
from bench.core.places import CONF
from bench.core.rows import default_rows, plugin_rows, rows_in

_KINDS = {"attention": "mechanism", "task": "task"}
"""Groups of entries, with the key that names what an entry is of."""


def groups(root: Root) -> dict[str, list[str]]:
    """The config groups of a command, such as ``attention``, and the names that it chooses."""
    return {
        group: [names] if isinstance(names, str) else list(names or [])
        for choice in root.content.get("defaults", [])
        if isinstance(choice, dict)
        for group, names in choice.items()
        if (CONF / group).is_dir()
    }


def why_no_choice(words: list[str]) -> str | None:
    """Message about the first word that gives a config group anything but names; else None."""
    for word in words:
        group, given, value = word.lstrip("+~").partition("=")
        names = value.strip("[]").split(",") if value != "[]" else []
        is_group = group and given and (CONF / group).is_dir()
        if is_group and not all(_is_name(name) for name in names):
            known = ", ".join(sorted(options(group, words)))
            return f"{word}: {group} takes names, in a list or alone. Known: {known}."
    return None


def _is_name(word: str) -> bool:
    return word != "null" and bool(re.fullmatch(r"[A-Za-z_][\w/-]*", word.strip(" '\"")))


def no_override(word: str) -> str:
    """Say that a word cannot be read, with examples; of signs after a key, how to quote them."""
    key, _, value = word.partition("=")
    quoted = f"""'{key}="{value}"'"""
    if re.search(r"[ ~;&!#<>^]|[^\x00-\x7f]", value) and not re.search(r"""[][{}'"\\]""", value):
        return f"{word!r} cannot be read: its value has spaces or signs. Quote it twice: {quoted}."
    return f"{word!r} is no KEY=VALUE such as seq_len=64, 'seq_len=[64,96]' or 'task=[]'."


def options(group: str, words: list[str]) -> Iterator[str]:
    """Names in a config group: ours, and those of ``--config-dir`` and ``hydra.searchpath``."""
    yield from (names := set(yamls(group, words)))
    if group == "attention":
        yield from rows_without_yaml(words, names)


def yamls(group: str, words: list[str]) -> Iterator[str]:
    """Names of a group that have a YAML."""
    for root in [CONF, *own_folders(words)]:
        yield from (file.stem for file in _yamls_in(root / group))


def check_own_entries(config: Mapping[str, Any], words: list[str]) -> None:
    """Refuse a chosen YAML of the user's own that gives the row or task of its name no settings.

    Raises:
        ConfigError: names the file, and what to write in it.
    """
    for word in words:
        group, _, value = word.lstrip("+").partition("=")
        if group not in _KINDS or not isinstance(entries := config.get(group) or {}, Mapping):
            continue
        names = {name.strip(" []'\"") for name in value.split(",")}
        for file in (f for root in own_folders(words) for f in _yamls_in(root / group)):
            if file.stem in names and not isinstance(entries.get(file.stem), Mapping):
                raise ConfigError(
                    f"{file} has no settings under its own name. Its top key must be "
                    f"`{file.stem}:`, and below it stands `{_KINDS[group]}: NAME`."
                )


def refuse_added(command: str, known: Sequence[str], given: list[str], words: list[str]) -> None:
    """Refuse a key that ``+`` adds to the configuration and that the command would not read."""
    for word in given:
        name = re.split(r"[.=@/:]", word.lstrip("+"))[0]
        if word.startswith("+") and name not in known:
            if any(options(name, words)):  # a group of the user's own
                continue
            raise ConfigError(
                f"{word}: {name} is not a key of {command}, and nothing would read it. "
                f"{did_you_mean(name, known)}"
            )


def refuse_unread(
    command: str, config: Mapping[str, Any], known: Sequence[str], words: list[str]
) -> None:
    """Refuse a key of a YAML, such as an experiment of the user's own, that nothing would read.

    Raises:
        ConfigError: names the key, or says how such a YAML begins.
    """
    if isinstance(lost := config.get("experiment"), Mapping):
        raise ConfigError(
            f"The experiment sets {', '.join(map(str, lost))} below the key experiment, where "
            "nothing reads it. Let its YAML begin with the line: # @package _global_"
        )
    for key in config:
        if key not in known and not any(options(str(key), words)):
            raise ConfigError(
                f"A YAML sets {key}, which is not a key of {command}, and nothing would read it. "
                f"{did_you_mean(str(key), known)}"
            )


def _yamls_in(folder: Path) -> list[Path]:
    """The YAMLs in a folder that need not exist; what is not a file does not exist for Hydra."""
    found = folder.glob("*.yaml") if os.path.isdir(folder) else ()
    return sorted(file for file in found if file.is_file())


def own_folders(words: list[str]) -> list[Path]:
    """Folders of the user's own YAMLs that the command line names."""
    found: list[str] = []
    for word, following in zip_longest(words, words[1:], fillvalue=""):
        flag, is_given, value = word.partition("=")
        if flag in ("--config-dir", "-cd"):
            found.append(value if is_given else following)
        else:
            found += re.findall(r"file://([^,\]'\"]+)", word)
    return [Path(folder) for folder in found if folder]


_SETTING = re.compile(r"attention\.(\w+)\.(\w+)=")
"""A word that sets a hyperparameter of a row."""


def rows_without_yaml(words: Sequence[str], yamls: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Mechanism and hyperparameters of each row without a YAML, by label.

    With ``plugins=``, a name that is found in no source is a row as well: only importing the
    plugin shows whether it is a mechanism, and which defaults it has.
    """
    known = set(yamls)
    rows = default_rows() | plugin_rows(_values(words, "plugins"))
    if any(_values(words, "plugins")):
        known_or_row = known | rows.keys()
        named = (name for name in _values(words, "attention") if name not in known_or_row)
        rows |= {name: {"mechanism": name} for name in named}
    return {name: row for name, row in rows.items() if name not in known}


def settable(words: Sequence[str], folders: Iterable[Path]) -> list[str]:
    """The words, with ``++`` before a hyperparameter of a row whose YAML leaves it at its default.

    Without ``++``, Hydra refuses a key that the YAML lacks.

    Raises:
        ConfigError: one of these cannot be read.
    """
    if not any(map(_SETTING.match, words)):
        return list(words)
    rows = default_rows() | plugin_rows(_values(words, "plugins"))
    of = {label: name for folder in folders for label, name in own_rows(folder).items()}

    def is_default(word: str) -> bool:
        found = _SETTING.match(word)
        return found is not None and found[2] in rows.get(of.get(found[1], ""), {})

    return [f"++{word}" if is_default(word) else word for word in words]


def own_rows(folder: Path) -> dict[str, str]:
    """Mechanism of each YAML in a folder's ``attention/``, by label.

    Raises:
        ConfigError: one of them cannot be read.
    """
    try:
        return dict(rows_in(folder / "attention"))
    except ValueError as error:
        raise ConfigError(str(error)) from error


def _values(words: Sequence[str], key: str) -> Iterator[str]:
    """Names that the command line gives a key, in a list or alone."""
    for word in words:
        name, _, value = word.lstrip("+").partition("=")
        if name == key:
            yield from (one for one in re.findall(r"[A-Za-z_][\w.]*", value) if one != "null")
