"""Everything that is made from a store, as texts by name: what the freeze holds still.

Pinned: pictures are drawn by a stand-in, so that it plays no part whether `vl-convert` is
installed; the plugin lies on the path as an installed package does; numbers written in full keep
twelve digits. Left out: scripts, styles and
licences of others; what this package's mechanisms say of themselves, which docs/ has; output of
`attnbench list` and `show`, which loads plugins into the process and wraps at a terminal's width.
"""

import io
import json
import re
import sys
import tempfile
from collections.abc import Iterator
from contextlib import chdir, contextmanager, redirect_stderr, redirect_stdout
from dataclasses import asdict
from pathlib import Path
from typing import Any
from unittest.mock import patch

from rich.console import Console

import bench
from bench import report
from bench.core.calibration import with_calibration
from bench.core.record import Record
from bench.core.store import read_store
from bench.publishing import accuracy, naming
from bench.publishing.charts import write as charts
from bench.publishing.config import PublishConfig
from bench.publishing.diagnostics import read_diagnostics
from bench.publishing.leaderboard import build_leaderboard
from bench.publishing.sinks.vega import PARETO, SCALING, specification
from bench.publishing.sinks.view import view_of
from bench.publishing.terminal import print_leaderboard, print_versus
from bench.studies.diagnostics.study import write_found

PLUGIN = "frozen_plugin"
"""The store's only mechanism with a description."""

METRICS = (
    *("latency_s", "latency_p05_s", "speedup_over"),
    *("throughput_tokens_per_s", "flops", "flops_per_s", "roofline_fraction", "state_bytes"),
    *("peak_memory_bytes", "accuracy", "bits_per_byte", "chance", "num_steps", "steps_to_90"),
)
"""Columns of the dashboards' tables; the other pages have those of ``conf/publish``."""

_LAST_BITS = re.compile(r"(?<![\w.])-?\d+\.\d{10,}(?:e-?\d+)?(?![\w.])")
"""Numbers that are written with all their digits: the last ones depend on processor and scipy."""

WIDTH = 160
"""Columns of the terminal."""


def outputs(out: Path) -> dict[str, str]:
    """Texts by name, from a store that is written into."""
    with _pinned(out):
        found = {"lines.jsonl": _lines(out)}
        _quietly(report.main, [f"out={out}"])
        found |= {name: _text(out / name) for name in ("leaderboard.md", "table.csv")}
        found |= _page(_text(out / "leaderboard.html"))
        charts = {file.name: json.loads(_text(file)) for file in sorted(out.glob("charts/*.json"))}
        found["charts.json"] = _json(charts)
        records = with_calibration(read_store(out).records, out)
        found["dashboard.json"] = _json(_views(records, out))
        found["dashboard_charts.json"] = _json({n: specification(n) for n in (SCALING, PARETO)})
        found["terminal.txt"] = _terminal(records, out)
        page = out / "accuracy.md"
        _quietly(accuracy.main, [str(out), str(page), "attnbench sweep task=all"])
        found["accuracy.md"] = _text(page)
        found["diagnostics.md"] = _diagnostics(out)
    for name, text in found.items():
        if name != "lines.jsonl":
            found[name] = _LAST_BITS.sub(lambda number: f"{float(number[0]):.12g}", text)
        assert str(out) not in text, f"{name} names the folder that it was made in"
    return found


def _lines(out: Path) -> str:
    """Every record as it is written again, whatever its schema was."""
    contents = read_store(out)
    assert not contents.left_out, contents.describe()
    return "".join(f"{record.to_json()}\n" for record in contents.records)


def _page(html: str) -> dict[str, str]:
    """The page's data and specifications by lines, and the page without these and others' code."""
    found = {}
    for name in ("content", "specifications"):
        pattern = rf'(<script type="application/json" id="{name}">)(.*?)(</script>)'
        match = re.search(pattern, html, re.DOTALL)
        assert match, f"the page has no {name}"
        found[f"page_{name}.json"] = match[2]
        html = html.replace(match[2], name)
    content = json.loads(found["page_content.json"])
    for name, facts in content["mechanisms"].items():
        if name != PLUGIN:
            content["mechanisms"][name] = list(facts)
    found = {
        "page_content.json": _json(content),
        "page_specifications.json": _json(json.loads(found["page_specifications.json"])),
    }
    return found | {"page.html": _without_vendored(html)}


def _without_vendored(html: str) -> str:
    """Without scripts but the last one, which is ours, the hashes and licences, and a style."""
    scripts = re.findall(r"<script>(.*?)</script>", html, re.DOTALL)
    for script in scripts[:-1]:
        html = html.replace(f"<script>{script}</script>", "<script>vendored</script>")
    hashes = re.findall(r"sha256-[\w+/=]{44}", html)
    assert len(hashes) == len(scripts), hashes
    for other in hashes[:-1]:
        html = html.replace(other, "sha256-vendored")
    [style] = Path(bench.__file__).parent.rglob("tabulator.min.css")
    assert style.read_text(encoding="utf-8") in html
    html = html.replace(style.read_text(encoding="utf-8"), "/* vendored */")
    html = re.sub(r"<pre>.*?</pre>", "<pre>licence</pre>", html, flags=re.DOTALL)
    return re.sub(r"(<h3>[^ <]+) [^<]*</h3>", r"\1 version</h3>", html)


def _views(records: list[Record], out: Path) -> dict[str, Any]:
    """One a sweep; of its records, which `lines.jsonl` has, the digest."""
    config = _config(out)
    found = {}
    for sweep in dict.fromkeys(record.sweep for record in records):
        view = view_of([record for record in records if record.sweep == sweep], sweep, config)
        found[sweep] = asdict(view) | {"records": view.records_sha256}
        for kind in ("tables", "charts"):
            found[sweep][kind] = {name: _by_column(t) for name, t in found[sweep][kind].items()}
    return found


def _by_column(rows: list[dict[str, Any]]) -> dict[str, Any]:
    return {"columns": list(rows[0]), "rows": [list(row.values()) for row in rows]}


def _terminal(records: list[Record], out: Path) -> str:
    said = Console(file=io.StringIO(), width=WIDTH, force_terminal=False, color_system=None)
    config = _config(out)
    print_leaderboard(build_leaderboard(records, config.controls), config, said)
    print_versus(records, "nala", "softmax", said)
    return said.file.getvalue()


def _diagnostics(out: Path) -> str:
    found = read_diagnostics(out)
    assert found.origin is not None
    return _text(write_found(found.lines, found.origin, out / "own" / "diagnostics.md")[0])


def _config(out: Path) -> PublishConfig:
    columns = ("speedup_over", "latency_s", "peak_memory_bytes")
    return PublishConfig(out=out, metrics=METRICS, columns=columns, controls=("uniform", "none"))


@contextmanager
def _pinned(out: Path) -> Iterator[None]:
    """With the plugin installed, pictures of one line each, and nothing in the current folder."""
    drawing = patch.object(charts, "_drawn", lambda specs: (["<svg/>"] * len(specs), ""))
    site = str((out / "plugin").resolve())
    sys.path.insert(0, site)
    try:  # made-up commits are in no repository
        nowhere = patch.object(naming, "_not_here", return_value=frozenset())
        with nowhere, drawing, tempfile.TemporaryDirectory() as elsewhere, chdir(elsewhere):
            yield
    finally:
        sys.path.remove(site)


def _quietly(command: Any, words: list[str]) -> None:
    said = io.StringIO()
    with redirect_stdout(said), redirect_stderr(said):
        code = command(words)
    assert code == 0, said.getvalue()


def _json(value: Any) -> str:
    """A list of plain values on one line each: long enough to be small, short enough to compare."""
    return "".join(_written(value, 0)) + "\n"


def _written(value: Any, depth: int) -> Iterator[str]:
    is_object = isinstance(value, dict)
    if not isinstance(value, dict | list | tuple) or not _is_deep(value):
        yield json.dumps(value, ensure_ascii=False)
        return
    yield "{" if is_object else "["
    for i, item in enumerate(value):
        yield ",\n" if i else "\n"
        yield " " * (depth + 1)
        if is_object:
            yield f"{json.dumps(item, ensure_ascii=False)}: "
        yield from _written(value[item] if is_object else item, depth + 1)
    yield f"\n{' ' * depth}" + ("}" if is_object else "]")


def _is_deep(value: Any) -> bool:
    items = value.values() if isinstance(value, dict) else value
    return any(isinstance(item, dict | list | tuple) for item in items)


def _text(path: Path) -> str:
    return path.read_bytes().decode("utf-8")
