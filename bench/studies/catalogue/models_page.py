"""`python -m bench.models`: docs/models.md, the sizes of all models beside those that papers print.

Everything is counted on meta tensors, so the page is the same on every machine and takes seconds.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping

from torch import nn

from attentions.models import ModelInfo, build_model, model_info, model_names
from attentions.models.counting import ModelCounts, count_model
from bench.studies.catalogue.page_writer import write_pages
from bench.studies.catalogue.published_sizes import CLAIMS, Claim

PAGE = "models.md"
_ABOUT = """\
# Models

<!-- Made by `python -m bench.models`; edit bench/measuring/models/, not this. -->

`attentions.build_model(name, mechanism, image_size=…)` builds an image classifier and replaces its
attention with any mechanism that is bidirectional and needs no gates. Without a mechanism it builds
the model as published. Weights are untrained.

NaLaFormer and PVT are implemented here and need torch only. DeiT, PVT v2 and Swin come from timm,
the extra `models`.

What surrounds a mechanism:

- **NaLaFormer**: the projections, local position encoding, norm and gate of its own layers, for
  every core. `*_linear` uses the mechanism in all four stages; the others, as released, use it in
  the first two and softmax in the last two. `stages=` changes that.
- **PVT, PVT v2**: all tokens of a stage. The convolution that shrinks the grid for softmax is
  removed, as in FLatten's and PolaFormer's code.
- **Swin**: Swin's windows, or the whole grid of a stage in the presets of FLatten, PolaFormer and
  NaLaFormer. The table of relative positions is removed. In shifted windows, mechanisms that take a
  dense mask get Swin's; others see across the seam, as in FLatten's and PolaFormer's code.
- **DeiT**: the class token and the grid. Layers, which own their projections, are not supported.

A mechanism that owns its projections (`*_layer`) also replaces those of the model.
"""
_ABOUT_CLAIMS = """\
## Compared with the papers

Papers count with tools that see different parts of a model: all products, or also norms (fvcore:
5 operations per element for LayerNorm, 2 for BatchNorm), or only the modules that they know. Papers
seldom say which; NaLaFormer's training script counts with fvcore. The column "counted" names the
reading that gives the printed digits.
"""
_ABOUT_SIZES = """\
## All models

For images of {pixels} x {pixels} pixels and 1000 classes. One multiply-add is two FLOPs; all
matrix products and convolutions are counted, norms and elementwise work are not.
"""
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
    lines = [_ABOUT, _ABOUT_CLAIMS, *_claims(counts), ""]
    lines += [_ABOUT_SIZES.format(pixels=_PIXELS), *_sizes(counts)]
    return "\n".join(lines) + "\n"


def _claims(counts: Mapping[str, ModelCounts]) -> Iterator[str]:
    yield "| model | printed | built here | counted | agrees | printed in |"
    yield "|---|---|---|---|---|---|"
    notes = []
    for claim in CLAIMS:
        here, verdict = counts[claim.model], "yes"
        if claim.change is not None:
            changed = count_claimed(claim)
            verdict = f"at {_size(*claim.reading.of(changed))}"
        if not all(claim.agrees(here if claim.change is None else changed)):
            verdict = "no"
        if claim.note:
            notes.append(claim.note)
            verdict += f" [{len(notes)}]"
        printed = f"{claim.parameters}M, {claim.multiply_adds}G"
        yield (
            f"| {model_info(claim.model).title} | {printed} | {_size(*claim.reading.of(here))} | "
            f"{claim.reading} | {verdict} | {claim.table} |"
        )
    yield ""
    for number, note in enumerate(notes, start=1):
        yield f"{number}. {note}"


def _size(parameters: int, multiply_adds: int) -> str:
    return f"{parameters / 1e6:.3f}M, {multiply_adds / 1e9:.3f}G"


def _sizes(counts: Mapping[str, ModelCounts]) -> Iterator[str]:
    yield "| name | title | attention as published | parameters | multiply-adds | needs | source |"
    yield "|---|---|---|---|---|---|---|"
    for name, count in counts.items():
        info = model_info(name)
        yield (
            f"| `{name}` | {info.title} | {_published(info)} | {count.parameters / 1e6:.2f}M | "
            f"{count.multiply_adds / 1e9:.2f}G | {', '.join(info.requires) or 'torch'} | "
            f"{info.source} |"
        )


def _published(info: ModelInfo) -> str:
    if info.mechanism is None:
        return "softmax"
    if len(info.stages) == info.num_stages:
        return f"`{info.mechanism}`"
    stages = ", ".join(map(str, info.stages[:-1])) + f" and {info.stages[-1]}"
    return f"`{info.mechanism}` in stages {stages}, else softmax"
