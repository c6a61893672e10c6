"""docs/mechanisms.md and docs/differences.md, from the mechanisms' source.

Neither page is edited by hand: what they say is said in a docstring, a decorator or a formula. Of
measurements they hold none, so they are the same on every machine.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from attentions.capabilities import FAMILIES, PUBLISHED
from attentions.catalogue import CatalogueEntry, catalogue
from bench.core.rows import rows_of
from bench.measuring.costs.growth import BATCH_SIZE, HEAD_DIM, NUM_HEADS, SEQ_LEN, Costs, costs
from bench.studies.catalogue.listing import in_words
from bench.studies.catalogue.page_writer import write_pages

MECHANISMS, DIFFERENCES = "mechanisms.md", "differences.md"
_MADE = "Made by `make pages` from the docstrings of attentions/; edit those, not this."

_ABOUT_MECHANISMS = """\
{count} mechanisms behind one interface. `attnbench list` shows them with what has been proven on
this machine, `attnbench show NAME` shows one with its badges and commands.
[differences.md](differences.md) lists where papers, official code and this implementation differ.

In formulas, q, k and v are (B, H, N, D), i is a query and j a key.
[adding-an-attention.md](adding-an-attention.md) explains the claims. GFLOP is the cost of one
forward call by the mechanism's formula, at {shape}, with 2 FLOPs per
multiply-add. The powers of N give the growth of FLOPs, of working memory and of the FLOPs of one
decoded token; 1 means no growth. Working memory is what a forward call allocates, including its
output; it is empty if it is unknown without running.
"""
_ABOUT_DIFFERENCES = """\
A mechanism's name often stands for several functions: the paper's formula, its authors' code, and
common third-party code. Where they differ, a hyperparameter reproduces each version, and this page
gives the default. Defects that are not part of the mechanism, such as leaking the future, NaN, or
results that depend on the rest of the batch, are reproduced only on request.
[mechanisms.md](mechanisms.md) has formulas and hyperparameters; `python -m bench.verify` compares
with the authors' own numbers.
"""


def main(argv: list[str] | None = None) -> int:
    """Write the pages, or say which of them are old; returns the exit code."""
    return write_pages("bench.studies.catalogue.pages", all_pages, argv)


def all_pages() -> dict[str, str]:
    """File name -> text, of this package's own mechanisms, the authors' operators aside."""
    entries = [entry for entry in catalogue() if entry.family != PUBLISHED]
    return {MECHANISMS: _mechanisms(entries), DIFFERENCES: _differences(entries)}


def _by_family(entries: Sequence[CatalogueEntry]) -> Iterator[tuple[str, list[CatalogueEntry]]]:
    for family in FAMILIES:
        members = [entry for entry in entries if entry.family == family]
        if members:
            yield family, members


# --- docs/mechanisms.md --------------------------------------------------------------------------


def _mechanisms(entries: Sequence[CatalogueEntry]) -> str:
    cost = {entry.name: costs(entry.name) for entry in entries}
    lines = ["# Mechanisms", "", f"<!-- {_MADE} -->", ""]
    shape = f"B={BATCH_SIZE}, H={NUM_HEADS}, D={HEAD_DIM}, N={SEQ_LEN}"
    lines += [_ABOUT_MECHANISMS.format(count=len(entries), shape=shape)]
    for family, members in _by_family(entries):
        lines += [f"## {_title(family)}", "", f"{_sentence(FAMILIES[family])}", ""]
        lines += _overview(members, cost)
        for entry in members:
            lines += _section(entry)
    return "\n".join(lines).rstrip() + "\n"


def _overview(members: Sequence[CatalogueEntry], cost: dict[str, Costs]) -> Iterator[str]:
    yield "| name | kind | claims | GFLOP | FLOPs | memory | decoding |"
    yield "|---|---|---|---|---|---|---|"
    for entry in members:
        its = cost[entry.name]
        cells = (
            f"[`{entry.name}`](#{entry.name})",
            "layer" if entry.is_layer else "core",
            in_words(entry.capabilities),
            f"{its.flops / 1e9:.3g}",
            its.flops_growth or "",
            its.memory_growth or "",
            its.decode_growth or "",
        )
        yield f"| {' | '.join(cells)} |"
    yield ""


def _section(entry: CatalogueEntry) -> Iterator[str]:
    said = entry.description
    yield from (f"### {entry.name}", "")
    source = f"[{Path(entry.module).name}.py](../attentions/{entry.module}.py)"
    rows = ", ".join(f"`{label}`" for label in rows_of(entry.name))
    yield from (f"{entry.title}. {entry.source}. {source}; rows: {rows}", "")
    yield from (_markdown(said.summary), "")
    for block in said.body:
        yield from ("```text", block.text, "```") if block.is_formula else (_markdown(block.text),)
        yield ""
    if entry.defaults:
        yield from ("| hyperparameter | default | meaning |", "|---|---|---|")
        for name, default in entry.defaults.items():
            meaning = _markdown(said.arguments.get(name, "")).replace("|", "\\|")
            yield f"| `{name}` | `{default}` | {meaning} |"
        yield ""
    if said.hazards:
        yield from ("Hazards:", "")
        yield from (f"- {_markdown(item)}" for item in said.hazards)
        yield ""


# --- docs/differences.md -------------------------------------------------------------------------


def _differences(entries: Sequence[CatalogueEntry]) -> str:
    lines = ["# Differences between paper, official code and ours", "", f"<!-- {_MADE} -->", ""]
    lines += [_ABOUT_DIFFERENCES]
    for family, members in _by_family(entries):
        told = [entry for entry in members if entry.description.differences]
        if told:
            lines += [f"## {_title(family)}", ""]
        for entry in told:
            lines += [f"**[{entry.name}](mechanisms.md#{entry.name})**", ""]
            lines += [f"- {_markdown(item)}" for item in entry.description.differences]
            lines.append("")
    return "\n".join(lines).rstrip() + "\n"


def _title(family: str) -> str:
    return family.replace("_", " ").capitalize()


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."


def _markdown(text: str) -> str:
    """A docstring's words as Markdown: its code in single quotes, its stars and bars as they are.

    A formula in a running sentence has characters that Markdown would take for its own.
    """
    parts = text.replace("``", "`").split("`")
    for index in range(0, len(parts), 2):  # outside of code
        for sign in "*_<>|~":
            parts[index] = parts[index].replace(sign, f"\\{sign}")
    return "`".join(parts)


if __name__ == "__main__":
    sys.exit(main())
