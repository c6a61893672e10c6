"""The rows of the leaderboard, by the mechanism that they set; read as text, without Hydra."""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path
from typing import Any

from bench.core.places import CONF

_FOLDER = CONF / "attention"
_SETTING = re.compile(r"^ +(\w+): *([^#\n]*?) *(?:#.*)?$", re.MULTILINE)
_MECHANISM = re.compile(r"^ +(?:mechanism: *(\w+)|layers: )", re.MULTILINE)


def rows_of(mechanism: str, config_dir: Path | None = None) -> tuple[str, ...]:
    """Labels of the YAMLs of conf/attention that name a mechanism, its own name first.

    Args:
        mechanism: registered name.
        config_dir: a user's own folder, whose attention/ holds rows as well.
    """
    own = _rows_in(config_dir / "attention") if config_dir else ()
    rows = {label for label, name in (*_all_rows(), *own) if name == mechanism}
    return tuple(sorted(rows, key=lambda label: (label != mechanism, label)))


def row_labels() -> tuple[str, ...]:
    """Labels of all YAMLs of conf/attention."""
    return tuple(label for label, _ in _all_rows())


def settings_of(label: str) -> dict[str, Any] | None:
    """Mechanism and hyperparameters, by name, as a YAML of conf/attention sets them.

    None for a row that is none of ours: no path is made from a label. Values are scalars, or lists
    of words.
    """
    settings = _settings(label)
    return None if settings is None else dict(settings)


@cache
def _settings(label: str) -> dict[str, Any] | None:
    if label not in row_labels():
        return None
    file = _FOLDER / f"{label}.yaml"
    return {name: _scalar(text) for name, text in _SETTING.findall(file.read_text("utf-8"))}


def _scalar(text: str) -> Any:
    if text.startswith("["):
        return [word.strip() for word in text.strip("[]").split(",")]
    try:
        return json.loads(text)
    except ValueError:
        return text


@cache
def _all_rows() -> tuple[tuple[str, str], ...]:
    """Label and mechanism of every YAML of ours; no mechanism where it names layers."""
    return _rows_in(_FOLDER)


def _rows_in(folder: Path) -> tuple[tuple[str, str], ...]:
    found = []
    for file in sorted(folder.glob("*.yaml")):
        said = _MECHANISM.search(file.read_text(encoding="utf-8"))
        if said:
            found.append((file.stem, said[1] or ""))
    return tuple(found)
