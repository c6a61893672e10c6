"""The page of a folder, built again only if something that it shows has changed.

``<out>/cache/page.json`` holds a hash of what the page was made from, and its content. It is
derived, and may be deleted at any time. It is used or rebuilt as a whole: one more record may
rename rows, move ranks and change all colours, so everything is read and computed again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from attentions.catalogue import plugin_catalogue
from bench.core.calibration import with_calibration
from bench.core.cli.files import write_whole
from bench.core.cli.stored_files import read_inside, regular_files
from bench.core.places import CHECKOUT, CONF, PACKAGE
from bench.core.proofs import STORED, with_verified
from bench.core.store import read_records
from bench.publishing.config import PublishConfig, refuse_unknown
from bench.publishing.leaderboard import build_leaderboard
from bench.publishing.page.assemble import NAME, json_text, page_html
from bench.publishing.page.content import describe_mechanisms, page_content

_READ = (
    *("records/*.jsonl", "badges/*.jsonl", "calibration/*.json", "verify.json"),
    *("examples/*.json", "diagnostics.jsonl", "diagnostics/diagnostics.jsonl"),
)
MAX_BYTES = 2**31
"""Largest cached content of a page that is read, in bytes."""

_SOURCES = (PACKAGE, CHECKOUT / "attentions", CONF / "attention", CONF / "task")


def cache_file(out: Path) -> Path:
    """Path of the cached content of a folder's page."""
    return out / "cache" / "page.json"


def cached_page(config: PublishConfig) -> Path:
    """Write ``leaderboard.html`` from the records under ``config.out``, or from its cache.

    Raises:
        ConfigError: there are no records, a control is no mechanism, or a file cannot be read or
            written.
    """
    stamp = _stamp(config)
    content = _cached(cache_file(config.out), stamp)
    if content is None:
        content = json_text(_collected(config))  # by now the records have left memory
        text = f"{stamp} {_digest(content)}\n{content}"
        write_whole(cache_file(config.out), text, inside=config.out, is_derived=True)
    return write_whole(config.out / NAME, page_html(content))


def _collected(config: PublishConfig) -> dict[str, Any]:
    records = with_calibration(read_records(config.out), config.out)
    records = with_verified(records, config.out)
    refuse_unknown(config.controls, records)
    board = build_leaderboard(records, config.controls)
    return page_content(board, records, config)


def _cached(path: Path, stamp: str) -> str | None:
    """Cached content with the same stamp; None if there is none."""
    try:
        text = read_inside(path.parent.parent, path, MAX_BYTES).decode()
    except (OSError, UnicodeDecodeError):
        return None
    first, _, content = text.partition("\n")
    is_whole = first == f"{stamp} {_digest(content)}"
    return content if is_whole and "<" not in content else None  # `json_text` leaves none


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _stamp(config: PublishConfig) -> str:
    """Hash of everything that the content depends on.

    Files count by size and time, code by its text, installed plugins by what the page says of them.
    """
    said = [repr((config.metrics, config.columns, config.controls))]
    for pattern in _READ:
        for path in regular_files(config.out, pattern):
            with suppress(FileNotFoundError):  # it is gone by now
                facts = path.stat()
                said.append(f"{path.name} {facts.st_size} {facts.st_mtime_ns}")
    said += [f"{path} {path.read_text('utf-8')}" for path in (*_sources(), STORED) if path.exists()]
    plugins, _ = plugin_catalogue()
    if plugins:
        said.append(json_text(describe_mechanisms((entry.name for entry in plugins), config.out)))
    return _digest("\n".join(said))


def _sources() -> Iterator[Path]:
    for folder in _SOURCES:
        for pattern in ("*.py", "*.yaml"):
            yield from sorted(folder.rglob(pattern))
