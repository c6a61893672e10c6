"""The only module that imports wandb, whose interface changes between versions.

Runs are written offline only, which needs no server and cannot block;
`bench.publishing.sinks.wandb` uploads them. W&B never runs online without a key, for which it would
prompt.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from bench.publishing.config import PublishConfig
from bench.publishing.frame import Row
from bench.publishing.sinks.vega import FIELDS, chart_and_fields, preset, specification
from bench.publishing.sinks.view import View

_SILENT = {"WANDB_ERROR_REPORTING": "false"}
"""Turns off W&B's error reports to its server, for which the program would wait at its end."""


def load() -> None:
    """Import what writing a run imports; an error is ignored here and reported by `write_run`."""
    with suppress(Exception):
        import wandb
        import wandb.sdk.launch.inputs.internal  # noqa: F401  # by `init`, after all else


def write_run(view: View, config: PublishConfig) -> Path:
    """Write an offline run in place of earlier ones of the same id."""
    import wandb

    home = config.out.absolute() / "wandb"
    staging = staging_of(home, view.run_id)
    _remove_earlier(home, view.run_id)
    with _environment(_SILENT | _folders(home, staging)):
        try:
            run = wandb.init(
                mode="offline",
                dir=str(home.parent),
                project=config.wandb.project,
                entity=config.wandb.entity,
                id=view.run_id,
                name=view.sweep or None,
                group=view.group or None,
                tags=list(config.wandb.tags) or None,
                job_type="sweep",
                reinit="create_new",
                config=view.config,
                settings=_settings(wandb),
            )
            folder = Path(run.dir).parent
            _log(wandb, run, view, config.wandb.entity, staging)
            run.finish()
        finally:
            wandb.teardown()  # only without its service are the files whole and the id free again
    shutil.rmtree(home / ".cache", ignore_errors=True)
    return folder


def staging_of(home: Path, run_id: str) -> Path:
    """Folder of a run's artifact files until they are uploaded."""
    return home / ".data" / run_id


def run_id_of(folder: Path) -> str:
    """The id in the name of an offline run's folder."""
    return folder.name.split("-", 3)[-1]


def push_command(folder: Path) -> list[str]:
    """Command that uploads an offline run, under its own id."""
    return [sys.executable, "-P", "-m", "wandb", "sync", "--yes", "--include-synced", str(folder)]


def why_not_online() -> str:
    """Reason why nothing can be uploaded; empty if there is an address and a key.

    Looks where W&B looks, in the environment, .netrc and its settings, and starts no service.
    """
    from wandb.sdk import wandb_setup
    from wandb.sdk.lib import wbauth

    try:
        with _environment(_SILENT):
            settings = wandb_setup.singleton().settings
        found = wbauth.authenticate_session(
            host=settings.base_url, source="attnbench", prompt=False, update_session=False
        )
    except Exception as error:
        return in_words(error)
    if settings.mode in ("offline", "disabled") and "WANDB_MODE" not in os.environ:
        return f"`wandb {settings.mode}` was said here"
    return "" if found is not None else "no API key is configured"


def default_entity() -> str | None:
    """Default entity of the API key, if it has one; asks the server."""
    import wandb

    found: str | None = wandb.Api().default_entity
    return found


def keep_charts(entity: str) -> str:
    """Store the custom charts at W&B; returns the last error, e.g. that they exist, or nothing."""
    import wandb

    api, problem = wandb.Api(), ""
    for name in FIELDS:
        try:
            api.create_custom_chart(
                entity=entity,
                name=preset(name),
                display_name=f"attnbench: {name}",
                spec_type="vega2",
                access="private",
                spec=specification(name),
            )
        except Exception as error:
            problem = in_words(error)
    return problem


def in_words(error: Exception) -> str:
    """Type and first lines of an error, on one line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    first = " ".join(lines[:3]).rstrip(".")
    return f"{type(error).__name__}: {first}" if first else type(error).__name__


def _settings(wandb: Any) -> Any:
    """Settings with which W&B collects nothing about the machine, not even its name."""
    return wandb.Settings(
        silent=True,
        console="off",
        host="anon",
        disable_git=True,
        disable_code=True,
        x_disable_meta=True,
        x_disable_stats=True,
        x_disable_machine_info=True,
        x_save_requirements=False,
        x_transaction_log_flush_interval=1.0,
    )


@contextmanager
def _environment(changes: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables within a block."""
    before = {name: os.environ[name] for name in changes if name in os.environ}
    os.environ.update(changes)
    try:
        yield
    finally:
        for name in changes:
            del os.environ[name]
        os.environ.update(before)


def _folders(home: Path, staging: Path) -> dict[str, str]:
    """Environment variables that put W&B's folders below `home`; the folders are created."""
    places = {
        "WANDB_DIR": home.parent,
        "WANDB_DATA_DIR": staging,
        "WANDB_CACHE_DIR": home / ".cache",
        "WANDB_CONFIG_DIR": home / ".config",
    }
    for path in (home, *places.values()):
        path.mkdir(parents=True, exist_ok=True)
    return {name: str(path) for name, path in places.items()}


def _remove_earlier(home: Path, run_id: str) -> None:
    """Remove offline runs of the same id, and their staged files."""
    for folder in home.glob(f"offline-run-*-{run_id}"):
        if run_id_of(folder) == run_id:  # and not one whose id only ends like it
            shutil.rmtree(folder, ignore_errors=True)
    shutil.rmtree(staging_of(home, run_id), ignore_errors=True)


def _log(wandb: Any, run: Any, view: View, entity: str | None, staging: Path) -> None:
    for steps in view.steps:
        run.define_metric(steps.axis, hidden=True)
        for pattern in steps.patterns:
            run.define_metric(pattern, step_metric=steps.axis)
        # Each call is a step of W&B, which can only increase; curves have `axis` as their step.
        for size, scalars in steps.points:
            run.log({steps.axis: size, **scalars})
    run.log({name: _table(wandb, rows) for name, rows in view.tables.items()})
    for name, rows in view.charts.items():
        chart, fields = chart_and_fields(name, entity)
        run.log({name: wandb.plot_table(chart, _table(wandb, rows), fields)})
    run.log_artifact(_records_artifact(wandb, view, staging))
    run.summary.update(view.summary | {"records_sha256": view.records_sha256})


def _table(wandb: Any, rows: list[Row]) -> Any:
    return wandb.Table(columns=[*rows[0]], data=[[*row.values()] for row in rows])


def _records_artifact(wandb: Any, view: View, staging: Path) -> Any:
    """The sweep's records as a file, from which everything else can be made again."""
    file = staging / "records.jsonl"
    file.write_text(view.records)
    artifact = wandb.Artifact(
        f"records-{view.run_id}", type="records", metadata={"sha256": view.records_sha256}
    )
    artifact.add_file(str(file), policy="immutable")  # no second copy of it
    return artifact
