"""One HTML file from a template, our own scripts, and vendored ones.

It has a content security policy: nothing may be fetched, and only scripts run whose hashes are
listed. Data are text: the template escapes, and JSON is written without ``<``.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from markupsafe import Markup

from bench.core.cli.files import write_whole
from bench.core.record import Record
from bench.publishing.charts.pictures import Spec, specifications
from bench.publishing.config import PublishConfig
from bench.publishing.leaderboard import Leaderboard
from bench.publishing.metrics.marks import MEANINGS
from bench.publishing.page.content import page_content
from bench.publishing.templates import template

NAME = "leaderboard.html"
HEADING = '{"heading":'
_SCHEMA = "https://vega.github.io/schema/vega-lite/v6.json"
_ASSETS = Path(__file__).parent / "assets"
_VENDOR = Path(__file__).parent / "vendor"
_OURS = (
    "data.js",
    "state.js",
    "places.js",
    "table.js",
    "charts.js",
    "scores.js",
    "looked.js",
    "drawer.js",
    "answers.js",
    "compare.js",
    "advice.js",
    "start.js",
)
"""Scripts that are joined into one: they share a scope, and the last one starts the page."""


def write_page(board: Leaderboard, records: Sequence[Record], config: PublishConfig) -> Path:
    """Write ``leaderboard.html`` under ``config.out``.

    Raises:
        ConfigError: it cannot be written, or badges, ``verify.json`` or diagnostics are damaged.
    """
    content = json_text(page_content(board, records, config))
    return write_whole(config.out / NAME, page_html(content))


def page_html(
    content: str, boards: Sequence[tuple[str, str, str]] = (), records: str = "records/"
) -> str:
    """The HTML page of a content; see `page_content`.

    `boards` has address, title and a note of every page of a site, `records` the address of the
    records beside the page.
    """
    parts = "\n".join(_read(_ASSETS / name) for name in _OURS)
    others = [_VENDOR / one["file"] for one in vendored() if one["file"].endswith(".js")]
    scripts = [*map(_script, others), _inline(f'"use strict";\n{parts}')]
    return template(_ASSETS / "page.html.j2").render(
        style=Markup(_read(_VENDOR / "tabulator.min.css") + _read(_ASSETS / "page.css")),
        scripts=[Markup(script) for script in scripts],
        hashes=" ".join(_hash(script) for script in scripts),
        content=Markup(content),
        charts=Markup(json_text(_pictures())),
        licences=[(one["package"], one["version"], one["text"]) for one in vendored()],
        boards=boards,
        marks=MEANINGS,
        records=records,
        **_heading(content),
    )


def _pictures() -> dict[str, Spec]:
    """Every template of a picture, in the version of Vega-Lite that the page has."""
    return {name: {"$schema": _SCHEMA, **picture} for name, picture in specifications().items()}


def _heading(content: str) -> dict[str, Any]:
    """The part above the table; decoded alone, because the whole content can be large."""
    found: dict[str, Any]
    found, _ = json.JSONDecoder().raw_decode(content, len(HEADING))
    return found


def json_text(value: Any) -> str:
    """JSON in which no HTML parser sees a tag or a comment."""
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def vendored() -> list[dict[str, str]]:
    """Package, version, licence, file and hash of each vendored file, and the licence's text."""
    listed: list[dict[str, str]] = json.loads(_read(_VENDOR / "vendored.json"))
    return [one | {"text": _read(_VENDOR / one["licence_file"])} for one in listed]


def _script(path: Path) -> str:
    lines = _read(path).splitlines()
    # A browser would fetch the source map.
    return _inline("\n".join(line for line in lines if not line.startswith("//# sourceMapp")))


def _inline(script: str) -> str:
    """Escape what would end the script for an HTML parser; to JavaScript it means the same."""
    return script.replace("</script", "<\\/script").replace("<!--", "<\\!--")


def _hash(script: str) -> str:
    digest = hashlib.sha256(script.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"


@cache
def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8")
