"""A mechanism's page in docs/mechanisms/: formula, source, costs, hazards, proofs, results."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache

from attentions.catalogue import CatalogueEntry
from bench.core.places import CHECKOUT
from bench.core.proofs import SERVING, BadgeStatus, stored_proofs
from bench.core.rows import ON_REQUEST, rows_of
from bench.publishing.document import markdown_table
from bench.studies.catalogue.costs import Costs
from bench.studies.catalogue.listing import in_words
from bench.studies.catalogue.programs import programs
from bench.studies.launches.study import in_one_line

MADE = "Made by `make pages` from the docstrings of attentions/; edit those, not this."
DOCS = CHECKOUT / "docs"
_ROW = re.compile(r"^\| .*\|$", re.MULTILINE)
_OTHER_PAGES = ("mechanisms.md", "differences.md")


def mechanism_page(entry: CatalogueEntry, cost: Costs, shape: str) -> str:
    """Text of the page; `shape` names the call that the costs are for."""
    said = entry.description
    lines = [f"# {as_markdown(entry.title)}", "", f"<!-- {MADE} -->", "", as_markdown(said.summary)]
    for block in said.body:
        text = f"```text\n{block.text}\n```" if block.is_formula else as_markdown(block.text)
        lines += ["", text]
    lines += ["", _facts(entry), *_hyperparameters(entry), "", *programs(entry)]
    lines += ["", "## Cost", "", _cost(cost, shape)]
    lists = (
        ("Hazards", [as_markdown(item) for item in said.hazards]),
        ("Differences", [as_markdown(item) for item in said.differences]),
        ("Tested", [*_tested(entry.name)]),
        ("Results", [f"[{title}](../{page})" for page, title in _results(entry.name)]),
    )
    for title, items in lists:
        if items:
            lines += ["", f"## {title}", "", *(f"- {item}" for item in items)]
    return "\n".join(lines) + "\n"


def _facts(entry: CatalogueEntry) -> str:
    source = re.sub(
        r"arXiv:(\d{4}\.\d{4,5})", r"[arXiv:\1](https://arxiv.org/abs/\1)", entry.source
    )
    rows = ", ".join(f"`{label}`" for label in rows_of(entry.name) if label not in ON_REQUEST)
    file = f"attentions/{entry.module}.py"
    facts = {
        "source": source,
        "family": f"{entry.family}: {entry.family_meaning}",
        "kind": "layer, owns its projections" if entry.is_layer else "core, on heads",
        "claims": in_words(entry.capabilities),
        "rows": rows,
        "GPU launches": in_one_line(entry.name, entry.capabilities.requires),
        "code": f"[{file}](../../{file})",
    }
    return markdown_table(("", ""), facts.items())


def _hyperparameters(entry: CatalogueEntry) -> Iterator[str]:
    if entry.defaults:
        said = entry.description.arguments
        rows = [
            (f"`{name}`", f"`{default or 'needed'}`", as_markdown(said.get(name, "")))
            for name, default in entry.defaults.items()
        ]
        yield from ("", markdown_table(("hyperparameter", "default", "meaning"), rows))


def _cost(cost: Costs, shape: str) -> str:
    grown = {
        "FLOPs": cost.flops_growth,
        "working memory": cost.memory_growth,
        "state while decoding": cost.decode_growth,
    }
    growth = ", ".join(f"{name} {power}" for name, power in grown.items() if power)
    words = f"{cost.flops / 1e9:.3g} GFLOP for one forward call at {shape}, by its formula."
    return f"{words} As N grows: {growth}." if growth else words


def _tested(name: str) -> Iterator[str]:
    """Goldens and badges that are stored with the code, whatever has been tested here since."""
    proofs = stored_proofs().get(name)
    if proofs is None:
        yield "Nothing is stored; `attnbench verify` tests it."
        return
    if proofs.goldens:
        yield "Matches the authors' code in {} of {} recorded cases.".format(*proofs.goldens)
    for status in BadgeStatus:
        claims = [badge.claim for badge in proofs.badges.values() if badge.status is status]
        if claims:
            yield f"{str(status).replace('_', ' ')}: {', '.join(claims)}"
    held = [b for claim in SERVING if (b := proofs.badges.get(claim)) and b.reason]
    if held:
        yield f"[serving](../serving.md): {'; '.join(f'{b.claim} {b.reason}' for b in held)}"


def _results(name: str) -> Iterator[tuple[str, str]]:
    """Pages of docs/ with a table that has one of the mechanism's rows, and their titles."""
    rows = set(rows_of(name))
    yield from ((page, title) for page, title, labels in _tables() if rows & labels)


@cache
def _tables() -> tuple[tuple[str, str, frozenset[str]], ...]:
    """Page, title and the cells of its tables."""
    found = []
    for file in sorted([*DOCS.glob("*.md"), *DOCS.glob("results/*.md")]):
        page = file.relative_to(DOCS).as_posix()
        if page in _OTHER_PAGES:
            continue
        text = file.read_text("utf-8")
        cells = {
            cell.strip().removesuffix(" (control)").strip("`")
            for row in _ROW.findall(text)
            for cell in row.split("|")
        }
        found.append((page, text.partition("\n")[0].lstrip("# "), frozenset(cells)))
    return tuple(found)


def as_markdown(text: str) -> str:
    """A docstring as Markdown: code in single backquotes, stars, bars and such escaped elsewhere.

    A formula in a running sentence has characters that Markdown would interpret.
    """
    parts = text.replace("``", "`").split("`")
    for index in range(0, len(parts), 2):  # outside of code
        for sign in "*_<>|~":
            parts[index] = parts[index].replace(sign, f"\\{sign}")
    return "`".join(parts)
