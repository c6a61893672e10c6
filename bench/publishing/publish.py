"""Turn records into tables, charts, pages and dashboard runs. Nothing here needs torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.core.cli.files import write_whole
from bench.core.record import Record
from bench.publishing.charts import charts
from bench.publishing.charts.write import write_charts
from bench.publishing.config import PublishConfig
from bench.publishing.diagnostics import entropy_chart, read_diagnostics, report_sections
from bench.publishing.document import Chart, write
from bench.publishing.frame import csv_text
from bench.publishing.leaderboard import Leaderboard, build_leaderboard
from bench.publishing.markdown import leaderboard_page, leaderboard_tables
from bench.publishing.page.assemble import write_page
from bench.publishing.sinks import publish_runs


@dataclass(frozen=True, kw_only=True)
class Published:
    """Result of publishing: files written, notes for the user, and the board."""

    files: tuple[Path, ...]
    notes: tuple[str, ...]
    board: Leaderboard


def publish(
    records: Sequence[Record],
    config: PublishConfig,
    sweep: str | None = None,
    end: Callable[[str], None] = lambda stage: None,
) -> Published:
    """Write page, tables, ``charts/`` and the runs of a dashboard under ``config.out``.

    With `sweep`, a run is written for this sweep alone. `end` is called with the name of each
    stage.

    Raises:
        ConfigError: a file cannot be written.
    """
    board = build_leaderboard(records, config.controls)
    table = write_whole(config.out / "table.csv", csv_text(records, config.metrics, board))
    found = read_diagnostics(config.out)
    diagnosed = report_sections(found)

    def write_markdown(pictures: Sequence[Chart]) -> Path:
        page = leaderboard_page(board, config.columns, pictures, config.model_columns, diagnosed)
        return write(page, config.out / "leaderboard.md")

    files = [write_page(board, records, config), write_markdown([]), table]
    end("tables and page")
    entropy = entropy_chart(found.lines)
    shown = (*charts(board), *([entropy] if entropy else [])) if config.charts else ()
    drawn, pictures = write_charts(shown, config.out / "charts")
    if pictures:
        write_markdown(pictures)
    end("charts")
    folders, notes = publish_runs(records, config, sweep)
    end("dashboard")
    return Published(
        files=(*files, *drawn, *folders), notes=(*found.describe(), *notes), board=board
    )


def write_latex(records: Sequence[Record], config: PublishConfig) -> Path:
    """Write the leaderboard's tables to ``leaderboard.tex``; returns its path.

    Raises:
        ConfigError: the file cannot be written.
    """
    board = build_leaderboard(records, config.controls)
    tables = leaderboard_tables(board, config.columns, config.model_columns)
    return write(tables, config.out / "leaderboard.tex")
