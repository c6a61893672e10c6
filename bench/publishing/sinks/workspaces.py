"""W&B workspaces and reports as code: panels that compare runs without a click.

They are built here, without a server, from the names that runs log. Each is written as JSON, and
sent if there is a key. The form of the JSON is internal to wandb-workspaces, whose version is
therefore pinned.
"""

from __future__ import annotations

import importlib.util
import json
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from bench.core.cli.errors import ConfigError
from bench.core.cli.files import write_whole
from bench.core.grouping import grouped
from bench.publishing.config import PublishConfig
from bench.publishing.sinks import wandb_door as door
from bench.publishing.sinks.vega import PARETO, SCALING, chart_and_fields
from bench.publishing.sinks.view import HISTORY, PREFIXES, View
from bench.publishing.sinks.wandb import SEND_TIMEOUT_S, choose_mode

TITLE = "Attention mechanisms"
_VIEW_NAME = "nw-attnbench-v"
"""Name of the workspace at W&B: the same each time, so that making it again replaces it."""
_MOST_LINES = 40
"""Largest number of lines in a panel; W&B does not draw more of them well."""


def make_dashboard(
    views: Sequence[View], sentences: Sequence[str], config: PublishConfig
) -> tuple[Path, list[str]]:
    """Write the workspace or report for these runs, and send it if there is a key.

    Raises:
        ConfigError: the extra is missing, or the file cannot be written.
    """
    kind = config.wandb.make
    if importlib.util.find_spec("wandb_workspaces") is None:
        raise ConfigError(
            f"wandb.make={kind} needs wandb-workspaces, which is not installed.\n"
            "Install it: pip install attnbench[workspaces]"
        )
    mode, notes = choose_mode(None if config.wandb.mode == "disabled" else config.wandb.mode)
    entity = config.wandb.entity
    problem = ""
    if mode == "online" and entity is None:
        entity, problem = _in_time(door.default_entity)
        if not (entity or problem):
            problem = "the key has no default entity; say wandb.entity=NAME"
    built = build(views, sentences, config, entity)
    model = built._to_model()
    text = json.dumps(model.model_dump(mode="json", by_alias=True, exclude_none=True), indent=1)
    file = write_whole(config.out / "wandb" / f"{kind}.json", text + "\n", inside=config.out)
    if mode == "online" and not problem:
        without, problem = _in_time(lambda: _send(built, entity))
        if without:
            notes.append(f"Custom charts were not kept, or are there already: {without}.")
        if not problem:
            return file, [*notes, f"Sent to {entity}/{config.wandb.project} at W&B."]
    if problem:
        notes.append(f"W&B did not take the {kind}: {problem}.")
    notes.append(
        f"To send the {kind}: set WANDB_API_KEY, or run `wandb login`, and then "
        f"attnbench report wandb.make={kind} wandb.mode=online out={config.out}"
    )
    return file, notes


def build(
    views: Sequence[View], sentences: Sequence[str], config: PublishConfig, entity: str | None
) -> Any:
    """Build the workspace or the report, without sending it."""
    import wandb_workspaces.reports.v2 as reports
    import wandb_workspaces.workspaces as workspaces

    groups = {title: panels for title, panels in _groups(reports, views, entity) if panels}
    project = config.wandb.project
    if config.wandb.make == "report":
        runs = reports.Runset(entity="", project="", name="Sweeps")  # of the report's own project
        blocks: list[Any] = [reports.H1(TITLE), *(reports.P(words) for words in sentences)]
        for title, panels in groups.items():
            blocks += [reports.H2(title), reports.PanelGrid(runsets=[runs], panels=panels)]
        return reports.Report(project=project, entity=entity or "", title=TITLE, blocks=blocks)
    workspace = workspaces.Workspace(
        entity=entity or "",
        project=project,
        name=TITLE,
        sections=[
            workspaces.Section(name=title, panels=panels, is_open=True)
            for title, panels in groups.items()
        ],
    )
    workspace._internal_name = _VIEW_NAME
    return workspace


def _groups(
    reports: Any, views: Sequence[View], entity: str | None
) -> Iterator[tuple[str, list[Any]]]:
    """Panels by their heading."""
    names = _logged(views)
    latencies = _curves(reports, names, "latency_s", "Latency (s)")
    yield "Latency and accuracy by mechanism", [*latencies, *_scores(reports, views)]
    for title, metric, label in (
        ("Speed-up", "speedup_over", "Speed-up over the reference"),
        ("Memory", "peak_memory_bytes", "Peak memory (bytes)"),
    ):
        yield title, [*_curves(reports, names, metric, label)]
    yield "Training", [*_training(reports, names)]
    charts = [name for name in (SCALING, PARETO) if any(name in view.charts for view in views)]
    yield "Scaling and Pareto front", [_custom(reports, name, entity) for name in charts]
    yield "Regression history", [*_history(reports, views)]


def _logged(views: Sequence[View]) -> dict[str, list[str]]:
    """Names of the scalars along each axis, without duplicates."""
    names: dict[str, dict[str, None]] = {}
    for view in views:
        for steps in view.steps:
            for _, scalars in steps.points:
                names.setdefault(steps.axis, {}).update(dict.fromkeys(scalars))
    return {axis: sorted(known) for axis, known in names.items()}


def _curves(reports: Any, names: dict[str, list[str]], metric: str, label: str) -> Iterator[Any]:
    """One panel per setting, with a line for each entry and run."""
    for axis, prefix in PREFIXES.items():
        start = f"{prefix}{metric}/"
        settings: dict[str, list[str]] = {}
        for name in names.get(axis, ()):
            if name.startswith(start):
                settings.setdefault(name[len(start) :].rpartition("/")[0], []).append(name)
        for setting, lines in settings.items():
            yield reports.LinePlot(
                title=f"{label}: {setting}",
                x=reports.Metric(axis),
                y=[reports.Metric(line) for line in lines[:_MOST_LINES]],
                log_x=True,
                log_y=True,
                title_x=axis,
                title_y=label,
            )


def _scores(reports: Any, views: Sequence[View]) -> Iterator[Any]:
    """One panel per task, with a bar for each row and run."""
    names = dict.fromkeys(name for view in views for name in view.scores)
    tasks = grouped(names, lambda name: name.rpartition("/")[0])
    for start, own in tasks.items():
        metric, _, task = start.partition("/")
        yield reports.BarPlot(
            title=f"{metric.replace('_', ' ').capitalize()}: {task}",
            metrics=[reports.Metric(name) for name in own],
        )


def _training(reports: Any, names: dict[str, list[str]]) -> Iterator[Any]:
    trained = [name for name in names.get("train/step", ()) if name.startswith("train/validation/")]
    if trained:
        yield reports.LinePlot(
            title="Validation score while training",
            x=reports.Metric("train/step"),
            y=[reports.Metric(name) for name in trained[:_MOST_LINES]],
        )


def _custom(reports: Any, name: str, entity: str | None) -> Any:
    chart, fields = chart_and_fields(name, entity)
    return reports.CustomChart(
        query={"summaryTable": {"tableKey": f"{name}_table"}},
        chart_name=chart,
        chart_fields=dict(fields),
        chart_strings={},
    )


def _history(reports: Any, views: Sequence[View]) -> Iterator[Any]:
    """One panel per cell, with a point for each run at the time of its measurement."""
    known = dict.fromkeys(name for view in views for name in view.summary)
    for name in [name for name in known if name.startswith(HISTORY)][:_MOST_LINES]:
        yield reports.ScatterPlot(
            title=f"Speed-up over time: {name.removeprefix(HISTORY)}",
            x=reports.SummaryMetric("measured_at"),
            y=reports.SummaryMetric(name),
        )


def _send(built: Any, entity: str | None) -> str:
    """Save, with the custom charts at W&B, where panels name them; says why these were not."""
    problem = door.keep_charts(entity) if entity else ""
    built.save()
    return problem


def _in_time(step: Any) -> tuple[Any, str]:
    """Run a step within `SEND_TIMEOUT_S`: its result, or the reason why there is none."""
    outcome: list[Any] = []

    def run() -> None:
        try:
            outcome.append((step(), ""))
        except Exception as error:
            outcome.append((None, door.in_words(error)))

    worker = threading.Thread(target=run, daemon=True)
    worker.start()
    worker.join(SEND_TIMEOUT_S)
    return outcome[0] if outcome else (None, f"no answer in {SEND_TIMEOUT_S:.0f} s")
