"""`python -m bench.models`: docs/models.md, the sizes of all models beside those that papers print.

Everything is counted on meta tensors, so the page is the same on every machine and takes seconds.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping

from torch import nn

from attentions.models import ModelInfo, build_model, model_info, model_names
from attentions.models.counting import ModelCounts, count_model
from bench.publishing.document import markdown_table
from bench.publishing.metrics.fvcore import verdict as fvcore_verdict
from bench.publishing.templates import prose
from bench.studies.catalogue.page_writer import write_pages
from bench.studies.catalogue.published_sizes import CLAIMS, FVCORE, Claim

PAGE = "models.md"
_PIXELS = 224


def main(argv: list[str] | None = None) -> int:
    """Write the page, or say that it is old; returns the exit code."""
    return write_pages("bench.models", lambda: {PAGE: page()}, argv)


@functools.cache
def count_published(name: str) -> ModelCounts:
    """Count a model as its authors published it."""
    return count_model(lambda: build_model(name), _PIXELS)


def count_claimed(claim: Claim) -> ModelCounts:
    """Count the model of a claim, changed if the claim says so."""
    change = claim.change
    if change is None:
        return count_published(claim.model)

    def build() -> nn.Module:
        model = build_model(claim.model)
        change(model)
        return model

    return count_model(build, _PIXELS)


def page() -> str:
    """The text of docs/models.md."""
    counts = {name: count_published(name) for name in model_names()}
    lines = [*_prose("introduction"), *_prose("claims"), *_claims(counts), ""]
    lines += [*_prose("sizes", pixels=_PIXELS), _sizes(counts)]
    return "\n".join(lines) + "\n"


def _claims(counts: Mapping[str, ModelCounts]) -> Iterator[str]:
    head = ("model", "printed", "built here", "counted", "agrees", "by fvcore", "printed in")
    rows = []
    notes = []
    for claim in CLAIMS:
        here, verdict = counts[claim.model], "yes"
        if claim.change is not None:
            changed = count_claimed(claim)
            verdict = f"at {_size(*claim.convention.of(changed))}"
        if not all(claim.agrees(here if claim.change is None else changed)):
            verdict = "no"
        if claim.note:
            notes.append(claim.note)
            verdict += f" [{len(notes)}]"
        printed = f"{claim.parameters}M, {claim.multiply_adds}G"
        title, size = model_info(claim.model).title, _size(*claim.convention.of(here))
        seen = FVCORE[claim.model]
        judged = fvcore_verdict(seen["multiply_adds"] / here.multiply_adds, seen["unsupported"])
        judged = f"{seen['multiply_adds'] / 1e9:.3f}G: {judged}"
        rows.append((title, printed, size, claim.convention, verdict, judged, claim.table))
    yield from (markdown_table(head, rows), "")
    for number, note in enumerate(notes, start=1):
        yield f"{number}. {note}"


def _size(parameters: int, multiply_adds: int) -> str:
    return f"{parameters / 1e6:.3f}M, {multiply_adds / 1e9:.3f}G"


def _sizes(counts: Mapping[str, ModelCounts]) -> str:
    head = ("name", "title", "attention as published", "parameters", "multiply-adds", "needs")
    rows = [
        (
            f"`{name}`",
            info.title,
            _published(info),
            f"{count.parameters / 1e6:.2f}M",
            f"{count.multiply_adds / 1e9:.2f}G",
            ", ".join(info.requires) or "torch",
            info.source,
        )
        for name, count in counts.items()
        for info in [model_info(name)]
    ]
    return markdown_table((*head, "source"), rows)


def _published(info: ModelInfo) -> str:
    if info.mechanism is None:
        return "softmax"
    if len(info.stages) == info.num_stages:
        return f"`{info.mechanism}`"
    stages = ", ".join(map(str, info.stages[:-1])) + f" and {info.stages[-1]}"
    return f"`{info.mechanism}` in stages {stages}, else softmax"


def _prose(block: str, **values: object) -> tuple[str, str]:
    """Words of the page, and an empty line."""
    return prose(__file__, block, **values), ""
