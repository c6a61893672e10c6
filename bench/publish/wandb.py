"""W&B's one door: a view of the store, one run a sweep. Imported when used, offline by default.

The store is the truth, so nothing here may stop a sweep: whatever W&B raises becomes a note, after
one more try offline. W&B is never asked online without a key, where it would prompt.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path
from typing import Any

from bench.publish.config import WANDB_MODES, PublishConfig, WandbConfig
from bench.publish.csv import flat_rows
from bench.publish.leaderboard import Leaderboard, Setting, Standing, build_leaderboard
from bench.record import SCHEMA_VERSION, Quality, Record, Status

INIT_TIMEOUT_S = 20.0
FINISH_TIMEOUT_S = 60.0
_PREFIXES = {"seq_len": "", "image_size": "model/"}
"""Axes that curves run along, and what the names of their scalars begin with."""

_NO_AXES = {"entry", "mechanism", "kind", "hyperparameters", "task_settings", "plugins"}
_FALSE_FRIENDS = {"dryrun": "offline", "run": "online"}  # older names that W&B still accepts


def publish_wandb(
    records: Sequence[Record], config: PublishConfig, sweep: str | None = None
) -> tuple[list[Path], list[str]]:
    """Write one W&B run for each sweep in `records`, or for one of them.

    Run ids follow from the sweep's id, so that publishing again adds to the same run. A sweep id
    may have a part behind a slash, the job of a multirun: its jobs are runs of one group.

    Returns:
        The folders of the runs, and notes for the person on what did not go as asked.
    """
    asked = config.wandb.mode or os.environ.get("WANDB_MODE") or None
    if _FALSE_FRIENDS.get(asked or "", asked) == "disabled":
        return [], []
    folders, notes = [], []
    for one in dict.fromkeys(record.sweep for record in records):
        if sweep is not None and one != sweep:
            continue
        mine = [record for record in records if record.sweep == one]
        try:
            folder, more = _publish_sweep(mine, one, config)
        except Exception as error:
            notes.append(f"W&B was left out: {_words(error)}. The records are unharmed.")
            break
        folders += [folder] if folder else []
        notes += more
    return folders, list(dict.fromkeys(notes))


def _publish_sweep(
    records: Sequence[Record], sweep: str, config: PublishConfig
) -> tuple[Path | None, list[str]]:
    import wandb

    mode, notes = choose_mode(config.wandb)
    if mode == "disabled":
        return None, notes
    if mode == "online":
        try:
            return _write_run(wandb, "online", records, sweep, config), notes
        except Exception as error:
            notes.append(
                f"W&B could not be reached: {_words(error)}. The run was written offline; "
                f"`wandb sync` sends it later."
            )
    return _write_run(wandb, "offline", records, sweep, config), notes


def choose_mode(config: WandbConfig) -> tuple[str, list[str]]:
    """``online``, ``offline`` or ``disabled``, decided here so that W&B never asks a person.

    The configuration's word, else ``WANDB_MODE``, else what ``wandb offline`` has set, else online
    if an API key is configured, else offline. Online without a key is offline, with a note.
    """
    asked = config.mode or os.environ.get("WANDB_MODE") or None
    asked = _FALSE_FRIENDS.get(asked or "", asked)
    if asked in ("offline", "disabled"):
        return asked, []
    notes = []
    if asked not in (None, "online"):
        notes.append(f"WANDB_MODE={asked} is not known here; it was read as if it were not set.")
    with _without_unknown_mode():
        settings = _ambient_settings()
    if asked != "online" and settings.mode in ("offline", "disabled"):
        return settings.mode, notes
    try:
        if _has_key(settings.base_url):
            return "online", notes
        problem = "no API key is configured"
    except Exception as error:
        problem = _words(error)
    if asked == "online":
        notes.append(f"W&B is offline, not online as asked: {problem}. Run `wandb login`.")
    return "offline", notes


def _ambient_settings() -> Any:
    """W&B's settings from environment and files, read without starting its service."""
    from wandb.sdk import wandb_setup

    return wandb_setup.singleton().settings


def _has_key(base_url: str) -> bool:
    """Whether W&B would find a key in the environment, .netrc or its settings, without asking."""
    from wandb.sdk.lib import wbauth

    found = wbauth.authenticate_session(
        host=base_url, source="attnbench", prompt=False, update_session=False
    )
    return found is not None


def _settings(wandb: Any) -> Any:
    """Everything that may change between W&B's versions, in one place.

    Nothing about the machine is collected but what the records say themselves, and not its name.
    """
    return wandb.Settings(
        silent=True,
        console="off",
        host="anon",
        disable_git=True,
        disable_code=True,
        init_timeout=INIT_TIMEOUT_S,
        finish_timeout=FINISH_TIMEOUT_S,
        x_disable_meta=True,
        x_disable_stats=True,
        x_disable_machine_info=True,
        x_save_requirements=False,
        x_transaction_log_flush_interval=1.0,
    )


@contextmanager
def _files_under(folder: Path, mode: str) -> Iterator[None]:
    """Point W&B's folders into `folder` for a while."""
    places = {"WANDB_DIR": "", "WANDB_DATA_DIR": ".data", "WANDB_CACHE_DIR": ".cache"}
    if mode == "offline":  # online it holds the address of a server of the user's own
        places["WANDB_CONFIG_DIR"] = ".config"
    before = {name: os.environ.get(name) for name in places}
    for name, place in places.items():
        path = folder / place if place else folder.parent
        path.mkdir(parents=True, exist_ok=True)
        os.environ[name] = str(path)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _write_run(
    wandb: Any, mode: str, records: Sequence[Record], sweep: str, config: PublishConfig
) -> Path:
    out = config.out.absolute()
    group = config.wandb.group or sweep.partition("/")[0]
    board = build_leaderboard(records, metrics=config.metrics, controls=config.controls)
    with _without_unknown_mode(), _files_under(out / "wandb", mode), _service(wandb):
        run = wandb.init(
            mode=mode,
            dir=str(out),
            project=config.wandb.project,
            entity=config.wandb.entity,
            id=run_id(sweep),
            name=sweep or None,
            group=group or None,
            tags=list(config.wandb.tags) or None,
            job_type="sweep",
            resume="allow" if mode == "online" else None,
            reinit="create_new",
            config=_run_config(records, sweep),
            settings=_settings(wandb),
        )
        try:
            folder = Path(run.dir).parent
            _log(wandb, run, records, board, config)
        except BaseException:
            run.finish(exit_code=1)
            raise
        run.finish()
    return folder


@contextmanager
def _without_unknown_mode() -> Iterator[None]:
    """Hide a ``WANDB_MODE`` with which W&B would refuse to start at all."""
    asked = os.environ.get("WANDB_MODE")
    is_known = asked in (None, "", *WANDB_MODES, *_FALSE_FRIENDS)
    if not is_known:
        del os.environ["WANDB_MODE"]
    try:
        yield
    finally:
        if asked is not None:
            os.environ["WANDB_MODE"] = asked


@contextmanager
def _service(wandb: Any) -> Iterator[None]:
    """End W&B's own process afterwards: only then are its files whole and a run's id free again."""
    try:
        yield
    finally:
        wandb.teardown()


def run_id(sweep: str) -> str:
    """A sweep's run id: its own, with what W&B does not allow in one replaced."""
    return "".join(c if c.isalnum() or c in "-_" else "-" for c in sweep) or "sweep"


def _log(
    wandb: Any, run: Any, records: Sequence[Record], board: Leaderboard, config: PublishConfig
) -> None:
    for axis, prefix in _PREFIXES.items():
        run.define_metric(axis, hidden=True)
        for name in config.metrics:
            run.define_metric(f"{prefix}{name}/*", step_metric=axis)
        # Each call is a step of W&B's own, which only rises; the size is the step of the curves.
        for size, scalars in curves(board, config.metrics, axis):
            run.log({axis: size, **scalars})
    run.define_metric("train/step", hidden=True)
    for name in ("validation", "loss"):
        run.define_metric(f"train/{name}/*", step_metric="train/step")
    for step, scalars in training_curves(records):
        run.log({"train/step": step, **scalars})
    leaderboard_columns, leaderboard_rows = _leaderboard_table(board, config.metrics)
    record_columns, record_rows = flat_rows(records, config.metrics)
    run.log(
        {
            "leaderboard": _table(wandb, leaderboard_columns, leaderboard_rows),
            "records": _table(wandb, record_columns, record_rows),
        }
    )
    run.summary.update(summary(records, board))


def curves(
    board: Leaderboard, metrics: Sequence[str], axis: str = "seq_len"
) -> Iterator[tuple[int, dict[str, float | int]]]:
    """Scalars at each size along an axis, ascending, named ``metric/setting/entry``.

    Those of whole models, along ``image_size``, are named ``model/metric/setting/entry``. Only
    sizes and settings with a number count, so that a failure elsewhere renames no curve.
    """
    timed = [
        ranking
        for ranking in board.rankings
        if ranking.setting.workload.size_axis == axis and any(map(_is_timed, ranking.standings))
    ]
    names = _setting_names({ranking.setting for ranking in timed})
    by_size = sorted(timed, key=lambda ranking: ranking.size)
    for size, group in groupby(by_size, key=lambda ranking: ranking.size):
        yield (
            size,
            {
                f"{_PREFIXES[axis]}{name}/{names[ranking.setting]}/{standing.entry}": value
                for ranking in group
                for standing in ranking.standings
                for name in metrics
                if (value := standing.values[name]) is not None
            },
        )


def training_curves(records: Sequence[Record]) -> Iterator[tuple[int, dict[str, float]]]:
    """Losses and validation scores of training runs after each step at which there are any.

    They are named ``train/validation/task/entry/seed``, and ``train/loss/...``.
    """
    points: dict[int, dict[str, float]] = {}
    for record in records:
        result = record.result
        if not isinstance(result, Quality):
            continue
        work = record.cell.task
        run = f"{work.label}/{record.cell.entry}/{work.seed}"
        for step, score in zip(result.validation_steps, result.validation, strict=True):
            points.setdefault(step, {})[f"train/validation/{run}"] = score
        if result.num_steps is None:  # of a record from before steps were counted
            continue
        for place, loss in enumerate(result.losses, 1):
            step = round(result.num_steps * place / len(result.losses))
            points.setdefault(step, {})[f"train/loss/{run}"] = loss
    yield from sorted(points.items())


def _is_timed(standing: Standing) -> bool:
    return standing.record.status is Status.OK


def _setting_names(settings: Collection[Setting]) -> dict[Setting, str]:
    """Dtype and mode of each, and of the rest what differs among them."""
    names = {s: f"{s.workload.dtype} {s.workload.mode}" for s in settings}
    axes = {setting: setting.axes for setting in settings}
    for axis in next(iter(axes.values()), {}):
        values = sorted({own[axis] for own in axes.values()}, key=_none_first)
        if axis in ("dtype", "mode") or len(values) < 2:
            continue
        for setting, own in axes.items():
            # A machine's words are long, and hold characters that W&B's names may not.
            value = values.index(own[axis]) + 1 if axis == "machine" else own[axis]
            word = re.sub(r"[^\w.]+", "-", str(value)) if axis == "model" else value
            names[setting] += f" {axis}={word}"
    return names


def _none_first(value: Any) -> tuple[bool, Any]:
    """A key to sort the values of an axis by, of which None may be one."""
    return value is not None, value


def summary(records: Sequence[Record], board: Leaderboard) -> dict[str, float | int]:
    """Numbers of the whole sweep: cells by status, accuracies, and what the sweep cost."""
    values: dict[str, float | int] = {"num_cells": board.num_cells}
    for record in records:
        name = f"num_{record.status}"
        values[name] = values.get(name, 0) + 1
    for task in board.tasks:
        for score in task.scores:
            if score.accuracy is not None:
                values[f"accuracy/{task.label}/{score.entry}"] = score.accuracy
    for part in ("measured", "total"):
        values[f"cost_{part}_s"] = sum(record.cost_s.get(part, 0.0) for record in records)
    return values


def _run_config(records: Sequence[Record], sweep: str) -> dict[str, Any]:
    cells = [record.cell.to_dict() for record in records]
    axes = {
        name: sorted({cell[name] for cell in cells if name in cell}, key=_none_first)
        for name in sorted({name for cell in cells for name in cell} - _NO_AXES)
    }
    return {
        "sweep": sweep,
        "axes": axes,
        "entries": {
            cell["entry"]: {"mechanism": cell["mechanism"], **cell["hyperparameters"]}
            for cell in cells
        },
        "environment": dict(records[-1].environment),
        "schema_version": SCHEMA_VERSION,
        "method_version": records[-1].method_version,
    }


def _leaderboard_table(
    board: Leaderboard, metrics: Sequence[str]
) -> tuple[Sequence[str], list[Mapping[str, Any]]]:
    axes = dict.fromkeys(name for ranking in board.rankings for name in ranking.setting.axes)
    place = ("machine", "method_version", "device", "num_threads", "dtype")
    common = (*_PREFIXES, "task", "seeds", "rank", "entry", "marks", "status")
    columns = tuple(dict.fromkeys([*place, *axes, *common, *metrics]))
    rows: list[Mapping[str, Any]] = [
        ranking.setting.axes
        | {ranking.setting.workload.size_axis: ranking.size}
        | {"rank": standing.rank, "entry": standing.entry, "marks": "; ".join(standing.marks)}
        | {"status": str(standing.record.status)}
        | {name: standing.values[name] for name in metrics}
        for ranking in board.rankings
        for standing in ranking.standings
    ]
    rows += [
        {name: getattr(task, name) for name in place}
        | {"task": task.label, "entry": score.entry, "accuracy": score.accuracy}
        | {"seeds": len(score.accuracies), "chance": score.chance}
        | {"rank": "control" if score.is_control else score.rank or None}
        | {"marks": "; ".join(score.marks)}
        | {"status": ", ".join(score.statuses) or "ok"}
        for task in board.tasks
        for score in task.scores
    ]
    return columns, rows


def _table(wandb: Any, columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> Any:
    data = [[row.get(name) for name in columns] for row in rows]
    return wandb.Table(columns=list(columns), data=data)


def _words(error: Exception) -> str:
    first = str(error).strip().partition("\n")[0].rstrip(".")
    return f"{type(error).__name__}: {first}" if first else type(error).__name__
