"""docs/mechanisms.md, a page per mechanism in docs/mechanisms/, differences.md and launches.md.

They are not edited by hand: a docstring, a decorator or a formula says what it says, stored proofs
say what was tested, and the pages of docs/ where a mechanism has numbers.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace

from attentions.capabilities import FAMILIES, PUBLISHED
from attentions.catalogue import CatalogueEntry, catalogue
from bench.core.rows import ON_REQUEST, rows_of
from bench.publishing.document import markdown_table
from bench.publishing.templates import prose
from bench.studies.catalogue.costs import BATCH_SIZE, HEAD_DIM, NUM_HEADS, SEQ_LEN, Costs, costs
from bench.studies.catalogue.mechanism_page import DOCS, MADE, as_markdown, mechanism_page
from bench.studies.catalogue.page_writer import write_pages
from bench.studies.launches import study as launches

MECHANISMS, DIFFERENCES = "mechanisms.md", "differences.md"
ADDING = "adding-an-attention.md"
"""A page written by hand, but for the files of attentions/ that it shows."""
_FILE = re.compile(r'^(```python title="(attentions/\S+)"\n).*?^```$', re.MULTILINE | re.DOTALL)
SHAPE = f"B={BATCH_SIZE}, H={NUM_HEADS}, D={HEAD_DIM}, N={SEQ_LEN}"


def main(argv: list[str] | None = None) -> int:
    """Write the pages, or say which of them are old; returns the exit code."""
    return write_pages("bench.studies.catalogue.pages", all_pages, argv)


def documented() -> list[CatalogueEntry]:
    """Mechanisms of this package that have a page: all but those that lists leave out."""
    return [e for e in catalogue() if e.family != PUBLISHED and e.name not in ON_REQUEST]


def all_pages() -> dict[str, str]:
    """File name below docs/ -> text."""
    entries = documented()
    cost = {entry.name: costs(entry.name) for entry in entries}
    pages = {MECHANISMS: _index(entries, cost), DIFFERENCES: _differences(entries)}
    pages[f"results/{launches.PAGE.name}"] = launches.summary()
    pages[ADDING] = _with_sources((DOCS / ADDING).read_text("utf-8"))
    for entry in entries:
        pages[f"mechanisms/{entry.name}.md"] = mechanism_page(entry, cost[entry.name], SHAPE)
    return pages


def _with_sources(text: str) -> str:
    """Text of a page, with the files of attentions/ that it shows replaced by their content now."""
    return _FILE.sub(lambda m: f"{m[1]}{(DOCS.parent / m[2]).read_text('utf-8')}```", text)


def _by_family(entries: Sequence[CatalogueEntry]) -> Iterator[tuple[str, list[CatalogueEntry]]]:
    for family in FAMILIES:
        members = [entry for entry in entries if entry.family == family]
        if members:
            yield family, members


def _index(entries: Sequence[CatalogueEntry], cost: dict[str, Costs]) -> str:
    lines = ["# Mechanisms", "", f"<!-- {MADE} -->", ""]
    num_rows = sum(len({*rows_of(entry.name)} - ON_REQUEST) for entry in entries)
    counts = {"count": len(entries), "rows": num_rows, "shape": SHAPE}
    lines += [prose(__file__, "mechanisms", **counts), ""]
    for family, members in _by_family(entries):
        meaning = FAMILIES[family]
        lines += [f"## {_title(family)}", "", f"{meaning[0].upper()}{meaning[1:]}.", ""]
        lines += [_overview(members, cost), ""]
    years = sorted({entry.year for entry in entries if entry.year}, reverse=True)
    rows = [
        (str(year), ", ".join(_link(entry) for entry in entries if entry.year == year))
        for year in years
    ]
    lines += ["## Support", "", prose(__file__, "support"), "", _support(entries), ""]
    lines += ["## By year", "", markdown_table(("year", "mechanisms"), rows)]
    return "\n".join(lines) + "\n"


_HEADER = ("name", "title", "year", "kind", "GFLOP", "FLOPs", "memory", "decoding")
_SUPPORT = (
    *("name", "forms", "masks", "packing", "grouped heads", "steps", "compile", "export"),
    "further claims",
)


def _overview(members: Sequence[CatalogueEntry], cost: dict[str, Costs]) -> str:
    rows = []
    for entry in members:
        its = cost[entry.name]
        cells = (
            _link(entry),
            as_markdown(entry.title),
            str(entry.year or ""),
            "layer" if entry.is_layer else "core",
            f"{its.flops / 1e9:.3g}",
            its.flops_growth or "",
            its.memory_growth or "",
            its.decode_growth or "",
        )
        rows.append(cells)
    return markdown_table(_HEADER, rows)


def _support(entries: Sequence[CatalogueEntry]) -> str:
    """Table of what can be asked of each mechanism, by its claims."""
    rows = []
    for entry in entries:
        can = entry.capabilities
        forms = [("bidirectional", can.bidirectional), ("causal", can.causal)]
        plain = replace(can, bidirectional=True, causal=False, recurrent=False, masks=frozenset())
        rows.append(
            (
                f"`{entry.name}`",
                ", ".join(form for form, has in forms if has),
                ", ".join(sorted(can.masks)),
                "yes" if can.packs else "",
                "" if entry.is_layer else "yes",
                "yes" if can.recurrent else "",
                "yes" if can.compiles else "",
                ", ".join(sorted(can.exports)),
                ", ".join(plain.claims),
            )
        )
    return markdown_table(_SUPPORT, rows)


def _differences(entries: Sequence[CatalogueEntry]) -> str:
    rows = []
    for entry in entries:
        said = entry.description.differences
        if said and not entry.capabilities.requires:  # adapters differ in what a kernel takes
            more = f" ([{len(said) - 1} more](mechanisms/{entry.name}.md#differences))"
            rows.append((_link(entry), as_markdown(said[0]) + more * (len(said) > 1)))
    title = "# Differences between paper, official code and ours"
    table = markdown_table(("mechanism", "its first difference"), rows)
    words = prose(__file__, "differences")
    return f"{title}\n\n<!-- {MADE} -->\n\n{words}\n\n{table}\n"


def _link(entry: CatalogueEntry) -> str:
    return f"[`{entry.name}`](mechanisms/{entry.name}.md)"


def _title(family: str) -> str:
    return family.replace("_", " ").capitalize()


if __name__ == "__main__":
    sys.exit(main())
