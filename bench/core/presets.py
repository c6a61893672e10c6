"""Learning rates that a search has found, as conf/rates/searched.yaml holds them. No torch."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from annotated_types import Len

from bench.core.cli.errors import ConfigError
from bench.core.cli.limits import Amount, Name, Plain, Rate, Text, checked, parsed
from bench.core.grouping import grouped
from bench.core.workloads import without_later_hyperparameters

_HEAD = """\
# @package rates
# Learning rates by task and entry, each with what it was searched at: it holds for a cell with just
# these settings and hyperparameters, and rates=shared leaves all of them out. Written by
# `attnbench rates`. `tried` is [rate, score on validation examples at the end of the run].
"""


@dataclass(frozen=True, kw_only=True)
class RatePreset:
    """One row's learning rate on one task.

    Attributes:
        mechanism, hyperparameters: of the row, in full.
        settings: of the task, in full, with the learning rate that rows share.
        tried: rate and validation score, None where a run had none, in rising order of rates.
        is_at_edge: whether a smaller or larger rate than all that were tried may be better.
        caveat: how a search whose runs were all stuck with its first seed went on; else empty.
    """

    task: Name
    entry: Name
    mechanism: Name
    hyperparameters: Plain
    settings: Plain
    learning_rate: Rate
    tried: Annotated[tuple[tuple[Rate, Amount | None], ...], Len(0, 1000)]
    is_at_edge: bool
    caveat: Text = ""

    def fits(
        self,
        mechanism: str,
        hyperparameters: Mapping[str, Any],
        settings: Mapping[str, Any],
        usual: Mapping[str, Any],
    ) -> bool:
        """Whether a cell has the mechanism and settings that were searched.

        Settings that were added since the search must be `usual`, the task's defaults.
        """
        later = settings.keys() - self.settings.keys()
        return (
            self.mechanism == mechanism
            and without_later_hyperparameters(mechanism, self.hyperparameters)
            == without_later_hyperparameters(mechanism, dict(hyperparameters))
            and self.settings.items() <= settings.items()
            and all(settings[name] == usual.get(name) for name in later)
        )


def read_presets(given: Any) -> tuple[RatePreset, ...]:
    """Read the composed configuration: task -> its searches, each with settings and rows by entry.

    Settings and rows are mappings, or JSON in a string, which Hydra composes much faster.

    Raises:
        ConfigError: it has another form.
    """
    try:
        return tuple(
            checked(
                RatePreset,
                {name: row[name] for name in _ROW}
                | {"caveat": row.get("caveat", "")}
                | {"task": task, "entry": entry, "settings": _said(found["settings"])}
                | {"tried": tuple((rate, score) for rate, score in row["tried"])},
            )
            for task, searches in (given or {}).items()
            for found in searches
            for entry, row in ((entry, _said(row)) for entry, row in found["entries"].items())
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ConfigError(
            f"rates holds no presets of learning rates ({error!r}). Choose rates=searched or "
            "rates=shared, or let `attnbench rates` write conf/rates/searched.yaml again."
        ) from error


def _said(value: Any) -> Any:
    return parsed(value) if isinstance(value, str) else value


_ROW = ("learning_rate", "is_at_edge", "mechanism", "hyperparameters")


def presets_text(presets: Iterable[RatePreset]) -> str:
    """Text of the file, sorted by task, settings and entry.

    Settings and rows are JSON in quotes, one per line.
    """
    by_task = grouped(sorted(presets, key=lambda p: (p.task, p.entry)), lambda p: p.task)
    lines = [_HEAD.rstrip("\n")]
    for task, presets_of_task in by_task.items():
        lines += [f"{task}:"]
        searches = grouped(presets_of_task, lambda p: json.dumps(p.settings))
        for settings, rows in sorted(searches.items()):
            lines += [f"- settings: {_quoted(settings)}", "  entries:"]
            for row in rows:
                values = {name: getattr(row, name) for name in _ROW} | {"tried": row.tried}
                values |= {"caveat": row.caveat} if row.caveat else {}
                lines += [f"    {row.entry}: {_quoted(json.dumps(values))}"]
    return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
