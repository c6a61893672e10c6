"""Everything that the page shows, as JSON: rows, what was measured where, mechanisms, samples."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from attentions.catalogue import CatalogueEntry, catalogue, plugin_catalogue
from bench.core.format import interval_names, title_and_scales
from bench.core.proofs import Proofs, read_proofs
from bench.core.record import Record
from bench.core.rows import rows_of
from bench.publishing.charts.style import plain_styles, styles_of
from bench.publishing.conclusions import sentences
from bench.publishing.config import PublishConfig
from bench.publishing.diagnostics import entropy_lines, read_diagnostics, report_sections
from bench.publishing.leaderboard import Leaderboard
from bench.publishing.metrics import find_metric
from bench.publishing.page.answers import answered
from bench.publishing.page.rows import Json, PageRows, page_rows
from bench.publishing.page.samples import curves, filtered, samples, sweeps
from bench.publishing.tables import Section, machine_words, summary_words

_OWN_METRICS = {
    "num_seeds": ("seeds", None, "Seeds with a score; each draws data and weights anew."),
    "num_tasks": ("tasks", None, "Tasks with a score that may be ranked."),
    "checked_len": (
        "checked at",
        None,
        "Sequence length at which the output was compared with the oracle.",
    ),
}
"""Numbers that only the page has: title, better direction, and meaning."""


def page_content(board: Leaderboard, records: Sequence[Record], config: PublishConfig) -> Json:
    """Data that the page's script reads.

    `records` include replaced ones, because sweeps are compared.
    """
    rows = page_rows(board, config.metrics)
    diagnosed = read_diagnostics(config.out)
    entropy = entropy_lines(diagnosed.lines)
    names = {record.cell.mechanism for own in rows.records for record in own}
    return {
        "heading": {
            "summary": summary_words(board),
            "machines": list(machine_words(board)),
            "headline": next((g["headline"] for g in rows.groups if "opens" in g), ""),
            "sentences": list(sentences(board)),
        },
        "metrics": _metrics(rows, config),
        "groups": list(rows.groups),
        "rows": rows.columns.to_json(),
        "curves": curves(rows),
        "filtered": filtered(rows),
        "answered": answered(rows, config.out),
        "entropy": entropy,
        "diagnostics": _by_row(report_sections(diagnosed)),
        "mechanisms": describe_mechanisms(names, config.out),
        "styles": {
            name: [style.colour, style.dash, style.thickness, style.shape]
            for name, style in (plain_styles(entropy) | styles_of(board)).items()
        },
        "samples": samples(rows, config.out),
        "sweeps": sweeps(records),
        "controls": list(config.controls),
        "links": {"docs": config.docs, "source": config.source},
    }


def _by_row(sections: Sequence[Section]) -> dict[str, list[list[str]]]:
    """Name, value and inputs of each number in tables of diagnostics, by the row's name."""
    found: dict[str, list[list[str]]] = {}
    for part in (part for section in sections for part in section.tables):
        for name, *cells in part.texts():
            numbers = zip(part.header[1:], cells, strict=True)
            own = [[title, cell, part.title] for title, cell in numbers if cell != "-"]
            found.setdefault(name, []).extend(own)
    return found


def _metrics(rows: PageRows, config: PublishConfig) -> list[Json]:
    """The numbers that any row has, the usual ones first: title, units and meaning.

    Others than the usual ones are left out if all are 0.
    """
    known = {*_OWN_METRICS, *config.metrics}
    found = []
    for name in dict.fromkeys((*_USUAL, *_OWN_METRICS, *config.metrics)):
        values = rows.columns.numbers.get(name, ())
        is_there = any(values) or (name in _USUAL and any(value is not None for value in values))
        if name not in known or not is_there:
            continue
        title, scales = title_and_scales(name)
        if name in _OWN_METRICS:
            title, better, meaning = _OWN_METRICS[name]
        else:
            better, meaning = find_metric(name).better, find_metric(name).meaning
        low, high = interval_names(name)
        found.append(
            {
                "name": name,
                "title": title,
                "better": better,
                "meaning": meaning,
                "scales": [list(scale) for scale in scales],
                "ends": [low, high] if low in rows.columns.numbers else None,
                "is_usual": name in _USUAL,
            }
        )
    return found


_USUAL = (
    *("speedup_over", "latency_s", "peak_memory_bytes", "throughput_images_per_s"),
    *("accuracy", "span", "bits_per_byte", "num_seeds", "num_tasks", "steps_to_90"),
)
"""Columns that are shown initially, if their rows have them."""


def describe_mechanisms(names: Iterable[str], out: Path) -> dict[str, Json]:
    """The page's facts of the named mechanisms; those that no source describes are left out.

    Badges and ``verify.json`` lie in `out`.

    Raises:
        ConfigError: badges or ``verify.json`` cannot be read.
    """
    wanted = set(names)
    proofs = read_proofs(out)
    plugins, _ = plugin_catalogue()  # `attnbench list` reports what is wrong with one
    return {
        entry.name: _facts(entry, proofs.get(entry.name, Proofs()))
        for entry in (*plugins, *catalogue())
        if entry.name in wanted
    }


def _facts(entry: CatalogueEntry, proofs: Proofs) -> Json:
    said = entry.description
    return {
        "title": entry.title,
        "source": entry.source,
        "page": f"mechanisms/{entry.name}/",
        "file": f"attentions/{entry.module}.py" if "/" in entry.module else "",
        "family": entry.family,
        "family_words": entry.family_meaning,
        "kind": "layer" if entry.is_layer else "core",
        "claims": list(entry.capabilities.claims),
        "rows": list(rows_of(entry.name)),
        "summary": _plain(said.summary),
        "body": [{"text": _plain(b.text), "is_formula": b.is_formula} for b in said.body],
        "hyperparameters": [
            [name, default or "needed", _plain(said.arguments.get(name, ""))]
            for name, default in entry.defaults.items()
        ],
        "hazards": [*map(_plain, said.hazards)],
        "differences": [*map(_plain, said.differences)],
        "tested": list(proofs.words(entry.module)),
        "badges": [
            {"claim": b.claim, "status": str(b.status), "reason": b.reason or ""}
            for b in proofs.badges.values()
        ],
    }


def _plain(text: str) -> str:
    """The text without the backticks around code."""
    return text.replace("`", "")
