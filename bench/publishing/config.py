"""Settings of publishing, checked. Part of every command that publishes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from attentions.catalogue import catalogue
from bench.core.cli.errors import check_known
from bench.core.observed import CONTROLS
from bench.core.record import Record
from bench.core.settings import Folder, Many, Name, Settings, Some, Word
from bench.publishing.metrics import metric_names

WandbMode = Literal["offline", "online", "disabled"]
Metric = Annotated[Name, Word(metric_names)]


class WandbConfig(Settings):
    """How a sweep is shown in W&B."""

    mode: WandbMode | None = None
    """None leaves it to ``WANDB_MODE``, and else to whether an API key is configured."""
    project: Name = "attnbench"
    entity: Name | None = None
    tags: Some[Name] = ()
    group: Name | None = None
    """Name that the runs of one multirun share; None is the sweep's id."""
    replay: bool = False
    """Whether to publish every sweep of the store, whatever was published before."""
    make: Literal["workspace", "report"] | None = None
    """Things to build for the project in place of runs."""


class PublishConfig(Settings):
    """The outputs of a leaderboard."""

    out: Folder
    """The folder that everything is written under."""
    metrics: Many[Metric]
    """Columns of ``table.csv`` and of W&B's tables, in this order."""
    columns: Many[Metric]
    """Columns of the leaderboard's own tables; narrow terminals drop the last ones."""
    model_columns: Some[Metric] = ()
    """Columns of its tables of whole models; empty for the same ones."""
    controls: Some[Name] = ()
    """Mechanisms that are shown beside the others and not ranked among them."""
    charts: bool = True
    """Whether to draw."""
    docs: Name | None = None
    """Address of the documentation, to which the page's rows link; None for no links."""
    source: Name | None = None
    """Address of the source tree, likewise."""
    dashboard: Literal["wandb", "trackio"] = "wandb"
    """Where runs are shown."""
    wandb: WandbConfig = WandbConfig()


def read_publish_config(config: Mapping[str, Any]) -> PublishConfig:
    """Read and check the settings of publishing; other keys of the configuration are ignored.

    Raises:
        ConfigError: a setting has the wrong type or value, or a metric does not exist.
    """
    found = PublishConfig.read({"out": None, **config})
    return found if found.model_columns else found.but(model_columns=found.columns)


def refuse_unknown(controls: Sequence[str], records: Sequence[Record]) -> None:
    """Refuse a control that is not a mechanism, neither in the catalogue nor in the records.

    Raises:
        ConfigError: names it, and the nearest mechanisms.
    """
    known = {*CONTROLS, *(record.cell.mechanism for record in records)}
    for name in controls:
        if name not in known:  # reading the catalogue takes 0.2 s
            known.update(entry.name for entry in catalogue())
        check_known(name, known, f"controls names {name!r}, and no mechanism is called that.")
