"""Names of rows: the entry, followed by settings if it was measured with different ones.

And names of commits, with marks for those that are not evidence.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterable
from functools import lru_cache
from typing import Any

from bench.core.cell import Cell
from bench.core.format import plural
from bench.core.places import CHECKOUT
from bench.core.rows import settings_of
from bench.core.workloads import without_later_hyperparameters

Names = dict[str, str]
"""Name of a row by `identity` of its cell."""


def identity(cell: Cell) -> str:
    """Entry, mechanism, hyperparameters and compiler as one string."""
    own = [cell.entry, _settings(cell), _compiler(cell)]
    return json.dumps(own, sort_keys=True)


def _settings(cell: Cell) -> dict[str, Any]:
    """Mechanism and hyperparameters by name, as the first records had them."""
    settings = without_later_hyperparameters(cell.mechanism, cell.hyperparameters)
    return {"mechanism": cell.mechanism} | settings


def _compiler(cell: Cell) -> str:
    """Name of a cell's compiler; empty for a task or an eager cell."""
    return "" if cell.is_task or cell.timed.compile == "eager" else cell.timed.compile


def row_names(cells: Iterable[Cell]) -> Names:
    """Name each row by its entry, followed by the settings in which it differs from a namesake.

    A store may hold ``performer`` with its default settings and, from another sweep, with 64
    features: ``performer`` and ``performer num_features=64``. The default settings of our own
    entries keep the plain name, and so do the first settings of any other entry: no later sweep
    renames a row. The name of a compiled row ends with its compiler. `cells` are in the order of
    their first measurement.
    """
    variants: dict[str, dict[str, Cell]] = {}
    for cell in cells:
        variants.setdefault(cell.entry, {})[identity(cell)] = cell
    names: Names = {}
    for entry, cells_by_identity in variants.items():
        settings = {own: _settings(cell) for own, cell in cells_by_identity.items()}
        keys = sorted({key for values in settings.values() for key in values})
        differing = [
            key
            for key in keys
            if len({json.dumps(values.get(key), sort_keys=True) for values in settings.values()})
            > 1
        ]
        usual = settings_of(entry) or next(iter(settings.values()))
        usual = without_later_hyperparameters(usual.get("mechanism", ""), usual)
        for own, values in settings.items():
            apart = [] if values == usual else [f"{key}={values.get(key)}" for key in differing]
            compiler = _compiler(cells_by_identity[own])
            names[own] = " ".join([entry, *apart, *([compiler] if compiler else [])])
    return names


_CHANGED, _ABSENT = "*", "†"
_MEANING = {_CHANGED: "with uncommitted changes", _ABSENT: "not in this repository"}


def commit_label(commit: str | None, is_dirty: bool | None) -> str:
    """Short commit, with ``*`` for uncommitted changes; empty if it is unknown."""
    return (commit or "")[:7] + _CHANGED * bool(is_dirty)


def commits_in_words(labels: Iterable[str]) -> str:
    """Commits with what their marks mean, or that they are unknown.

    For example ``commits 87c5e87, 99e86fc* (* with uncommitted changes)``. A commit that the
    repository of this checkout lacks has a ``†``, where there is a repository to ask.

    Args:
        labels: as of `commit_label`; repetitions and empty ones are left out.
    """
    known = sorted({label for label in labels if label})
    if not known:
        return "commit unknown"
    absent = _not_here(tuple(label.removesuffix(_CHANGED) for label in known))
    marked = [label + _ABSENT * (label.removesuffix(_CHANGED) in absent) for label in known]
    used = [f"{mark} {what}" for mark, what in _MEANING.items() if any(mark in m for m in marked)]
    legend = f" ({'; '.join(used)})" if used else ""
    return f"{plural('commit', len(known))} {', '.join(marked)}{legend}"


@lru_cache(maxsize=64)
def _not_here(commits: tuple[str, ...]) -> frozenset[str]:
    """Those that the checkout's repository lacks; none where it is not whole, or where none is."""
    if not (CHECKOUT / ".git").exists():
        return frozenset()

    def git(*words: str) -> str:
        done = subprocess.run(
            ["git", "-C", str(CHECKOUT), *words],
            input="".join(f"{commit}^{{commit}}\n" for commit in commits),
            capture_output=True,
            text=True,
        )
        return done.stdout

    try:
        if git("rev-parse", "--is-shallow-repository") != "false\n":
            return frozenset()
        answers = zip(commits, git("cat-file", "--batch-check").splitlines(), strict=True)
    except OSError:  # no git
        return frozenset()
    return frozenset(commit for commit, answer in answers if answer.endswith(" missing"))
