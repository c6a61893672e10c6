"""A folder of pages for static hosting: everything, each machine, each of the last sweeps."""

from __future__ import annotations

import gzip
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.core.cli.files import write_whole
from bench.core.format import quantity
from bench.core.grouping import grouped
from bench.core.record import Record
from bench.publishing.config import PublishConfig
from bench.publishing.frame import csv_text
from bench.publishing.leaderboard import build_leaderboard
from bench.publishing.machine import describe_machine
from bench.publishing.page.assemble import json_text, page_html
from bench.publishing.page.content import page_content

_RECORDS = "records.jsonl.gz"
MAX_SWEEPS = 20
"""Largest number of sweeps with a page of their own, the newest ones: a page takes 1.5 MB."""


@dataclass(frozen=True, kw_only=True)
class View:
    """One page of the site.

    Attributes:
        folder: name of its folder within the site; empty for the opening page.
    """

    folder: str
    title: str
    records: Sequence[Record]


def build_site(records: Sequence[Record], config: PublishConfig, site: Path) -> tuple[Path, ...]:
    """Write a page, a table and the records of everything, and a folder with these for each view.

    Each page links to all others.

    Raises:
        ConfigError: a file cannot be written.
    """
    files, pages = [], list(views(records))
    for view in pages:
        board = build_leaderboard(view.records, config.controls)
        docs = config.docs
        if docs and view.folder and "://" not in docs:  # beside the opening page
            docs = f"../{docs}"
        content = json_text(page_content(board, view.records, config.but(docs=docs)))
        folder = site / view.folder
        links = [_link(view, one) for one in pages] if len(pages) > 1 else ()
        files.append(
            write_whole(folder / "index.html", page_html(content, links, _RECORDS), inside=site)
        )
        lines = "".join(f"{record.to_json()}\n" for record in view.records)
        packed = gzip.compress(lines.encode(), mtime=0)
        files.append(write_whole(folder / _RECORDS, packed, inside=site))
        table = csv_text(view.records, config.metrics, board)
        files.append(write_whole(folder / "table.csv", table, inside=site))
    write_whole(site / ".nojekyll", "")  # hosts that run Jekyll leave the files as they are
    return tuple(files)


def _link(view: View, other: View) -> tuple[str, str, str]:
    """Address of another view relative to one, its title, and its number of records."""
    way = "../" * bool(view.folder) + (f"{other.folder}/" if other.folder else "")
    return f"{way}index.html", other.title, quantity(len(other.records), "record")


def views(records: Sequence[Record]) -> Iterator[View]:
    """Views of everything, of each machine and of each sweep, if there are several of these."""
    yield View(folder="", title="Everything", records=records)
    taken = set[str]()
    by_time = sorted(records, key=lambda record: record.started_at)
    machines = grouped(by_time, describe_machine)
    if len(machines) > 1:
        for number, (machine, own) in enumerate(sorted(machines.items()), start=1):
            folder = _folder(f"machine-{number}", taken)
            yield View(folder=folder, title=machine, records=own)
    sweeps = grouped(by_time, lambda record: record.sweep)
    newest = sorted(sweeps.items(), key=lambda one: one[1][-1].started_at, reverse=True)
    for sweep, own in newest[:MAX_SWEEPS] if len(sweeps) > 1 else ():
        folder = _folder(f"sweep-{sweep}", taken)
        yield View(folder=folder, title=f"Sweep {sweep}", records=own)


def _folder(wanted: str, taken: set[str]) -> str:
    """A folder name of letters, digits and hyphens that no other view has."""
    plain = re.sub(r"[^A-Za-z0-9-]+", "-", wanted)[:80]
    name, number = plain, 1
    while name in taken:
        number += 1
        name = f"{plain}-{number}"
    taken.add(name)
    return name
