"""Rows that a command can choose without a YAML: a mechanism with its constructor's defaults.

Mechanisms, also those of plugins, are read from their source; nothing is imported.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from bench.core.cli.errors import ConfigError
from bench.core.rows import default_rows, plugin_rows, rows_in

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
