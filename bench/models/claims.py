"""What papers print of their models' sizes, and how each number can be read. Data, no counting."""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import nn

from attentions.mechanisms.nala_layer import NalaLayer
from attentions.models.counting import ModelCounts
from attentions.models.nalaformer import Block, FeedForward
from attentions.models.pvt import PyramidTransformer

_NALA_PAPER = "NaLaFormer, arXiv:2506.21137v1"
_FLATTEN_TABLE = "FLatten, arXiv:2308.00442, Figure 6"
_RATIO_OF_THE_OTHERS = 3.5


class Reading(enum.StrEnum):
    """What a counting tool takes for the size of a model."""

    EVERYTHING = "all parameters, all products"
    WITH_NORMS = "all parameters, all products and norms"
    MODULES = "Linears, convolutions and norms only"

    def of(self, counts: ModelCounts) -> tuple[int, int]:
        """Parameters and multiply-adds."""
        if self is Reading.MODULES:
            return counts.module_parameters, counts.module_multiply_adds
        norms = counts.norm_operations if self is Reading.WITH_NORMS else 0
        return counts.parameters, counts.multiply_adds + norms


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A model's size as printed.

    Attributes:
        model: our name.
        parameters: millions, as many digits as printed.
        multiply_adds: 10^9, as many digits as printed.
        table: where it is printed.
        reading: how it was counted, as far as the numbers tell.
        change: what must be done to the model to arrive at the numbers; None if nothing.
        note: what differs, and what is known of the reason; empty if nothing does.
    """

    model: str
    parameters: str
    multiply_adds: str
    table: str
    reading: Reading
    change: Callable[[nn.Module], None] | None = None
    note: str = ""

    def agrees(self, counts: ModelCounts) -> tuple[bool, bool]:
        """Whether parameters and multiply-adds round to the printed digits."""
        parameters, multiply_adds = self.reading.of(counts)
        return (
            _rounded(parameters / 1e6, self.parameters) == self.parameters,
            _rounded(multiply_adds / 1e9, self.multiply_adds) == self.multiply_adds,
        )


def _rounded(value: float, like: str) -> str:
    return f"{value:.{len(like.partition('.')[2])}f}"


def narrower_feed_forward(model: nn.Module) -> None:
    """Give the blocks of NaLaFormer the mlp_ratio of its other small sizes."""
    for block in model.modules():
        if isinstance(block, Block):
            channels = block.ffn.fc1.in_features
            block.ffn = FeedForward(channels, int(_RATIO_OF_THE_OTHERS * channels))


def without_lepe(model: nn.Module) -> None:
    """Take the depthwise convolution out of each NaLa layer, as in the paper's first version."""
    for module in model.modules():
        if isinstance(module, NalaLayer):
            module.lepe = nn.Identity()  # type: ignore[assignment]


def with_idle_norm(model: nn.Module) -> None:
    """Give PVT the norm before its head that FLatten's code holds and never calls."""
    assert isinstance(model, PyramidTransformer)
    model.idle_norm = nn.LayerNorm(model.head.in_features)


def without_class_token(model: nn.Module) -> None:
    """Leave DeiT the tokens of its patches alone."""
    vit: Any = model
    vit.cls_token, vit.num_prefix_tokens = None, 0
    vit.pos_embed = nn.Parameter(vit.pos_embed[:, 1:])


CLAIMS = (
    Claim(
        model="nalaformer_xt",
        parameters="8",
        multiply_adds="1.0",
        table="README of the release",
        reading=Reading.WITH_NORMS,
        note=(
            "The release's own configuration is smaller. S, B and L, built of the same blocks, "
            "agree, and T is printed at an mlp_ratio that is not released either, so the printed "
            "size belongs to another configuration. Tried were other widths of a stage in whole "
            "heads up to 768, up to 24 blocks in a stage, mlp_ratio 1 to 8, a head of 128 to 4096 "
            "channels, 160 to 512 pixels, and softmax in other stages. Of these 255 changes of one "
            "thing, those that agree are: 288 channels in stage 3 (8.417M, 1.041G); 9 blocks in "
            "stage 3 (7.607M, 1.006G). Which it was, or whether more than one thing differs, is "
            "not known."
        ),
    ),
    Claim(
        model="nalaformer_t",
        parameters="15",
        multiply_adds="2.7",
        table=f"{_NALA_PAPER}, Table 1",
        reading=Reading.WITH_NORMS,
        change=narrower_feed_forward,
        note=(
            f"Agrees with mlp_ratio {_RATIO_OF_THE_OTHERS}, that of XT, S and L. The release has "
            "4, which is what is built here."
        ),
    ),
    *(
        Claim(
            model=f"nalaformer_{size}",
            parameters=parameters,
            multiply_adds=multiply_adds,
            table=f"{_NALA_PAPER}, Table 1",
            reading=Reading.WITH_NORMS,
        )
        for size, parameters, multiply_adds in (
            ("s", "26", "5.1"),
            ("b", "52", "11.8"),
            ("l", "95", "17.7"),
        )
    ),
    Claim(
        model="flatten_pvt_tiny",
        parameters="11",
        multiply_adds="1.9",
        table=f"{_NALA_PAPER}, Table 1",
        reading=Reading.MODULES,
        note=(
            "A counter that looks into modules sees neither the learned positions of the stages "
            "and layers nor the products of attention. FLatten's own paper counts both, below."
        ),
    ),
    Claim(
        model="pola_pvt_tiny",
        parameters="12",
        multiply_adds="2.0",
        table=f"{_NALA_PAPER}, Table 1",
        reading=Reading.MODULES,
        note=(
            "Counted as FLatten-PVT-T in the same table, the last digit is one higher; with the "
            "products of attention it is more. Tried were depthwise kernels of other widths and "
            "none, projections without bias, softmax in a stage, and keys of shrunken grids. Of "
            "these 10 changes of one thing, those that agree are: depthwise kernels of 3x3 "
            "(11.745M, 2.042G); PVT's softmax in stage 1 (12.266M, 1.994G); PVT's softmax in stage "
            "2 (12.242M, 2.001G); PVT's softmax in stage 3 (12.365M, 1.991G); no depthwise "
            "convolution (11.740M, 2.035G). Which it was, or whether more than one thing differs, "
            "is not known."
        ),
    ),
    Claim(
        model="flatten_swin_tiny",
        parameters="29",
        multiply_adds="4.5",
        table=f"{_FLATTEN_TABLE}, and {_NALA_PAPER}, Table 6",
        reading=Reading.EVERYTHING,
    ),
    Claim(
        model="swin_tiny",
        parameters="28",
        multiply_adds="4.4",
        table=f"{_NALA_PAPER}, Table 6",
        reading=Reading.MODULES,
        note="With the products of attention it is the 4.5 that Swin's own authors print.",
    ),
    Claim(
        model="swin_tiny",
        parameters="28",
        multiply_adds="4.5",
        table="README of Swin's code",
        reading=Reading.EVERYTHING,
        note="Swin's paper has 29M for the same model.",
    ),
    Claim(
        model="nala_swin_tiny",
        parameters="29",
        multiply_adds="4.8",
        table=f"{_NALA_PAPER}, Table 6",
        reading=Reading.EVERYTHING,
        change=without_lepe,
        note=(
            "The paper does not say which stages have NaLa. Of the first two, three or all four, "
            "with the release's local position encoding or without it as in the paper's first "
            "version, only the first three without it agree. Here they have it."
        ),
    ),
    *(
        Claim(
            model=model,
            parameters=parameters,
            multiply_adds=multiply_adds,
            table=_FLATTEN_TABLE,
            reading=Reading.EVERYTHING,
        )
        for model, parameters, multiply_adds in (
            ("pvt_tiny", "13.2", "1.9"),
            ("pvt_small", "24.5", "3.8"),
            ("flatten_pvt_small", "21.7", "4.0"),
            ("pvt_v2_b2", "25.4", "4.0"),
            ("flatten_pvt_v2_b1", "12.9", "2.2"),
        )
    ),
    Claim(
        model="flatten_pvt_tiny",
        parameters="12.2",
        multiply_adds="2.0",
        table=_FLATTEN_TABLE,
        reading=Reading.EVERYTHING,
        change=with_idle_norm,
        note=(
            "Agrees with the norm before the head that the authors' code holds and never calls, "
            "1,024 parameters."
        ),
    ),
    Claim(
        model="flatten_pvt_v2_b2",
        parameters="22.6",
        multiply_adds="4.3",
        table=_FLATTEN_TABLE,
        reading=Reading.EVERYTHING,
        note=(
            "The authors' code at its configuration has as many as are built here; 22.6 is what "
            "becomes of them when they are rounded to 22.55 first and then once more."
        ),
    ),
    Claim(
        model="pvt_v2_b1",
        parameters="13.1",
        multiply_adds="2.1",
        table=_FLATTEN_TABLE,
        reading=Reading.EVERYTHING,
        note=(
            "The README of PVT's code has 13.1M, too. The file of weights beside it is listed with "
            "54M; 13.1M parameters of 4 bytes take 52 MB or 50 MiB, those built here 56 MB or "
            "53 MiB."
        ),
    ),
    Claim(
        model="deit_tiny",
        parameters="5.7",
        multiply_adds="1.2",
        table=_FLATTEN_TABLE,
        reading=Reading.EVERYTHING,
        change=without_class_token,
        note="Agrees when the class token is left out, and the patches alone are counted.",
    ),
    Claim(
        model="deit_small",
        parameters="22",
        multiply_adds="4.6",
        table="Swin, arXiv:2103.14030, Table 1",
        reading=Reading.EVERYTHING,
    ),
)
