"""What to publish and where, checked. Part of every command that publishes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.app.errors import ConfigError, did_you_mean
from bench.metrics import find_metric

WANDB_MODES = ("offline", "online", "disabled")


@dataclass(frozen=True, kw_only=True)
class WandbConfig:
    """How a sweep is shown in W&B.

    Attributes:
        mode: ``offline``, ``online`` or ``disabled``; None leaves it to ``WANDB_MODE``, and
            else to whether an API key is configured.
        group: what the runs of one multirun share; None is the sweep's id.
    """

    mode: str | None = None
    project: str = "attnbench"
    entity: str | None = None
    tags: tuple[str, ...] = ()
    group: str | None = None


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
    """

    out: Path
    metrics: tuple[str, ...]
    columns: tuple[str, ...]
    model_columns: tuple[str, ...] = ()
    controls: tuple[str, ...] = ()
    charts: bool = True
    wandb: WandbConfig = WandbConfig()


def read_publish_config(config: Mapping[str, Any]) -> PublishConfig:
    """Read ``out``, ``metrics``, the two ``columns``, ``controls``, ``charts`` and ``wandb``.

    Keys that are somebody else's are left alone.

    Raises:
        ConfigError: naming the key, what was given and what is allowed.
    """
    metrics = _names(config, "metrics")
    columns = _names(config, "columns")
    model_columns = _names(config, "model_columns") if "model_columns" in config else columns
    shown = {"metrics": metrics, "columns": columns, "model_columns": model_columns}
    for key, names in shown.items():
        if not names:
            raise ConfigError(
                f"{key} is empty. Name one metric or more; see conf/publish/default.yaml."
            )
        for name in names:
            _check_metric(key, name)
    charts = config.get("charts")
    if not isinstance(charts, bool):
        raise ConfigError(f"charts is {charts!r}; it takes true or false.")
    return PublishConfig(
        out=Path(_text(config, "out")),
        metrics=metrics,
        columns=columns,
        model_columns=model_columns,
        controls=_names(config, "controls"),
        charts=charts,
        wandb=_read_wandb(config.get("wandb")),
    )


def _check_metric(key: str, name: str) -> None:
    try:
        find_metric(name)
    except ConfigError as error:
        raise ConfigError(
            f"{key} in conf/publish/default.yaml, or its override: {error}"
        ) from error


def _read_wandb(given: Any) -> WandbConfig:
    if not isinstance(given, Mapping):
        raise ConfigError(f"wandb is {given!r}; it has keys of its own, e.g. wandb.mode=offline.")
    known = WandbConfig.__dataclass_fields__
    for key in given:
        if key not in known:
            raise ConfigError(f"wandb.{key} is not a key. {did_you_mean(str(key), known)}")
    mode = _optional_text(given, "mode", section="wandb.")
    if mode is not None and mode not in WANDB_MODES:
        raise ConfigError(f"wandb.mode={mode} is not known. {did_you_mean(mode, WANDB_MODES)}")
    return WandbConfig(
        mode=mode,
        project=_text(given, "project", section="wandb."),
        entity=_optional_text(given, "entity", section="wandb."),
        tags=_names(given, "tags", section="wandb."),
        group=_optional_text(given, "group", section="wandb."),
    )


def _text(config: Mapping[str, Any], key: str, *, section: str = "") -> str:
    value = config.get(key)
    if not isinstance(value, str) or not value:
        raise ConfigError(f"{section}{key} is {value!r}; it takes one name.")
    return value


def _optional_text(config: Mapping[str, Any], key: str, *, section: str = "") -> str | None:
    return None if config.get(key) is None else _text(config, key, section=section)


def _names(config: Mapping[str, Any], key: str, *, section: str = "") -> tuple[str, ...]:
    value = config.get(key)
    if isinstance(value, str):
        return (value,)
    if not isinstance(value, Sequence) or not all(isinstance(name, str) for name in value):
        raise ConfigError(f"{section}{key} is {value!r}; it takes a list of names.")
    return tuple(dict.fromkeys(value))
