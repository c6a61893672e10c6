"""Facts about each mechanism besides its records: words, claims, tests. Needs no torch."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from attentions.catalogue import CatalogueEntry, catalogue, plugin_catalogue
from bench.core.proofs import Proofs, read_proofs
from bench.core.rows import rows_of

Json = dict[str, Any]


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
