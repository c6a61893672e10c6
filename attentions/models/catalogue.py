"""Which models there are, as data. Imports no torch, so names can be listed without waiting."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from dataclasses import dataclass

_NALAFORMER = "Meng et al., 2026, NaLaFormer, arXiv:2506.21137"
_DEIT = "Touvron et al., 2021, arXiv:2012.12877"
_PVT = "Wang et al., 2021, arXiv:2102.12122"
_PVT_V2 = "Wang et al., 2022, arXiv:2106.13797"
_SWIN = "Liu et al., 2021, arXiv:2103.14030"
_FLATTEN = "Han et al., 2023, arXiv:2308.00442"
_POLAFORMER = "Meng et al., 2025, arXiv:2501.15061"

ALL_STAGES = (1, 2, 3, 4)
EARLY_STAGES = (1, 2)
"""Those with most tokens: where NaLaFormer, FLatten-Swin and Pola-Swin are linear."""


@dataclass(frozen=True, kw_only=True)
class ModelInfo:
    """A model that `build_model` builds.

    Attributes:
        name: what `build_model` is called with.
        title: what a table's reader sees.
        source: authors, year and where to read it.
        family: the module here that builds it.
        variant: its size within the family.
        mechanism: what the authors put into `stages`; None where that is the family's own softmax.
        stages: stages that a mechanism is put into, from 1; empty for a model without stages, all
            of whose blocks take it.
        whole_grid: in windowed models, whether those stages attend to the whole grid at once.
        num_stages: how many stages it has; 0 if it has none.
        requires: optional packages, imported where the model is built.
        image_size: pixels along each side that it was published for.
        min_image_size: the least that it takes.
        image_size_step: sizes must be multiples of this.
    """

    name: str
    title: str
    source: str
    family: str
    variant: str
    mechanism: str | None = None
    stages: tuple[int, ...] = ALL_STAGES
    whole_grid: bool = False
    num_stages: int = 4
    requires: tuple[str, ...] = ()
    image_size: int = 224
    min_image_size: int = 32
    image_size_step: int = 32


def _nalaformers() -> Iterator[ModelInfo]:
    for variant in ("xt", "t", "s", "b", "l"):
        yield ModelInfo(
            name=f"nalaformer_{variant}",
            title=f"NaLaFormer-{variant.upper()}",
            source=_NALAFORMER,
            family="nalaformer",
            variant=variant,
            mechanism="nala_layer",
            stages=EARLY_STAGES,
        )
        yield ModelInfo(
            name=f"nalaformer_{variant}_linear",
            title=f"NaLaFormer-{variant.upper()}, linear in all stages",
            source=_NALAFORMER,
            family="nalaformer",
            variant=variant,
            mechanism="nala_layer",
        )


def _pyramids() -> Iterator[ModelInfo]:
    for prefix, title, source, mechanism in (
        ("", "PVT", _PVT, None),
        ("flatten_", "FLatten-PVT", _FLATTEN, "flatten_layer"),
        ("pola_", "Pola-PVT", _POLAFORMER, "polaformer_layer"),
    ):
        for variant, letter in (("tiny", "T"), ("small", "S")):
            yield ModelInfo(
                name=f"{prefix}pvt_{variant}",
                title=f"{title}-{letter}",
                source=source,
                family="pvt",
                variant=variant,
                mechanism=mechanism,
            )
    for prefix, title, source, mechanism in (
        ("", "PVTv2", _PVT_V2, None),
        ("flatten_", "FLatten-PVTv2", _FLATTEN, "flatten_layer"),
    ):
        for variant in ("b0", "b1", "b2"):
            yield ModelInfo(
                name=f"{prefix}pvt_v2_{variant}",
                title=f"{title}-{variant.upper()}",
                source=source,
                family="pvt_v2",
                variant=variant,
                mechanism=mechanism,
                requires=("timm",),
            )


def _windowed() -> Iterator[ModelInfo]:
    for prefix, title, source, mechanism, stages in (
        ("", "Swin", _SWIN, None, ALL_STAGES),
        ("flatten_", "FLatten-Swin", _FLATTEN, "flatten_layer", EARLY_STAGES),
        ("pola_", "Pola-Swin", _POLAFORMER, "polaformer_layer", EARLY_STAGES),
        # The paper does not say which stages; these have the parameters that it prints.
        ("nala_", "NaLa-Swin", _NALAFORMER, "nala_layer", (1, 2, 3)),
    ):
        yield ModelInfo(
            name=f"{prefix}swin_tiny",
            title=f"{title}-T",
            source=source,
            family="swin",
            variant="tiny",
            mechanism=mechanism,
            stages=stages,
            whole_grid=mechanism is not None,
            requires=("timm",),
        )


def _plain() -> Iterator[ModelInfo]:
    for variant, letter in (("tiny", "T"), ("small", "S")):
        yield ModelInfo(
            name=f"deit_{variant}",
            title=f"DeiT-{letter}",
            source=_DEIT,
            family="deit",
            variant=variant,
            stages=(),
            num_stages=0,
            requires=("timm",),
            min_image_size=16,
            image_size_step=16,
        )


_MODELS = {m.name: m for m in (*_nalaformers(), *_plain(), *_pyramids(), *_windowed())}


def model_names() -> tuple[str, ...]:
    """All names that `build_model` knows, sorted; none needs its packages to be listed."""
    return tuple(sorted(_MODELS))


def model_info(name: str) -> ModelInfo:
    """Facts about a model without building it.

    Raises:
        ValueError: no such name; the message lists the nearest ones.
    """
    if name not in _MODELS:
        near = difflib.get_close_matches(name, _MODELS, n=3, cutoff=0.5)
        hint = f"did you mean {', '.join(near)}?" if near else f"known: {', '.join(model_names())}."
        raise ValueError(
            f"No model is named {name!r}; {hint} A model of your own is named by the file and the "
            "function that builds it: path/to/factory.py:build."
        )
    return _MODELS[name]
