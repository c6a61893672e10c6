"""What to publish and where, checked. Part of every command that publishes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.app.errors import ConfigError
from bench.app.values import Values, flag, text, word
from bench.metrics import find_metric

WANDB_MODES = ("offline", "online", "disabled")
WANDB_MAKES = ("workspace", "report")
DASHBOARDS = ("wandb", "trackio")


@dataclass(frozen=True, kw_only=True)
class WandbConfig:
    """How a sweep is shown in W&B.

    Attributes:
        mode: ``offline``, ``online`` or ``disabled``; None leaves it to ``WANDB_MODE``, and
            else to whether an API key is configured.
        group: what the runs of one multirun share; None is the sweep's id.
        replay: publish every sweep of the store, whatever was published before.
        make: ``workspace`` or ``report``: build that for the project, and no runs.
    """

    mode: str | None = None
    project: str = "attnbench"
    entity: str | None = None
    tags: tuple[str, ...] = ()
    group: str | None = None
    replay: bool = False
    make: str | None = None


@dataclass(frozen=True, kw_only=True)
class PublishConfig:
    """The outputs of a leaderboard.

    Attributes:
        out: the folder that everything is written under.
        metrics: columns of ``table.csv`` and of W&B's tables, in this order.
        columns: of the leaderboard's own tables; narrow terminals drop the last ones.
        model_columns: of its tables of whole models; empty for the same ones.
        controls: mechanisms that are shown beside the others and not ranked among them.
        charts: whether to draw.
        dashboard: where runs are shown, ``wandb`` or ``trackio``.
    """

    out: Path
    metrics: tuple[str, ...]
    columns: tuple[str, ...]
    model_columns: tuple[str, ...] = ()
    controls: tuple[str, ...] = ()
    charts: bool = True
    dashboard: str = "wandb"
    wandb: WandbConfig = WandbConfig()


def read_publish_config(config: Mapping[str, Any]) -> PublishConfig:
    """Read ``out``, ``metrics``, the two ``columns``, ``controls``, ``charts`` and ``wandb``.

    Keys that are somebody else's are left alone.

    Raises:
        ConfigError: naming the key, what was given and what is allowed.
    """
    values = Values(config)
    columns = values.some("columns", text)
    shown = {"metrics": values.some("metrics", text), "columns": columns}
    shown["model_columns"] = columns
    if "model_columns" in config:
        shown["model_columns"] = values.some("model_columns", text)
    for key, names in shown.items():
        for name in names:
            _check_metric(key, name)
    return PublishConfig(
        out=Path(values.one("out", text)),
        **shown,
        controls=values.some("controls", text, or_none=True),
        charts=values.one("charts", flag),
        dashboard=values.one("dashboard", word(DASHBOARDS)),
        wandb=_read_wandb(values.section("wandb", WandbConfig.__dataclass_fields__)),
    )


def _check_metric(key: str, name: str) -> None:
    try:
        find_metric(name)
    except ConfigError as error:
        raise ConfigError(
            f"{key} in conf/publish/default.yaml, or its override: {error}"
        ) from error


def _read_wandb(values: Values) -> WandbConfig:
    return WandbConfig(
        mode=values.optional("mode", word(WANDB_MODES)),
        project=values.one("project", text),
        entity=values.optional("entity", text),
        tags=values.some("tags", text, or_none=True),
        group=values.optional("group", text),
        replay=values.one("replay", flag),
        make=values.optional("make", word(WANDB_MAKES)),
    )
