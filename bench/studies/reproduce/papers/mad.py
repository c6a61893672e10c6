"""MAD, whose values are transcribed from the papers named.

A score is the mean over settings, of which one differs from the baseline, of the best over a grid
of 3 rates and 2 weight decays, chosen on the test set.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bench.studies.reproduce.described import (
    HOUR_S,
    MINUTE_S,
    Code,
    Contradiction,
    Paper,
    PaperCell,
    Protocol,
    row_of_cells,
)

_CODE = Code(
    repository="https://github.com/athms/mad-lab",
    commit="69d09e29c1b4b642a1f468fc935fb8ccd366204c",
    date="2024-05-02",
    reason=(
        "the last before the DeltaNet paper (June 2024); until 756b19f (2024-12-05) every linear "
        "map started with a spread of 0.02"
    ),
)
_GRID = {"learning_rate": (0.0001, 0.0005, 0.001), "weight_decay": (0.0, 0.1)}
_MODEL = {
    "linear_std": 0.02,
    "embed_dim": 128,
    "num_heads": 16,
    "conv_width": 1,
    "mlp_ratio": 4,
    "position": "rope",
    "batch_size": 128,
    "num_steps": 20000,
    "warmup_share": 0.0,
}
_FEWER = [
    {"num_train_examples": 128 * steps // 200, "num_steps": steps}
    for steps in (10000, 5000, 2500, 1250)
]
"""Variants with fewer of the 12,800 examples, as many epochs each."""


def _each(**values: tuple[float, ...]) -> list[dict[str, float]]:
    """Variants in each of which one setting has one of its values."""
    return [{name: value} for name, own in values.items() for value in own]


# 256 examples in batches of 128, 200 epochs; 36 trainings. SwiGLU of 352 channels costs an MLP of
# 528.
MEMORISATION = Protocol(
    name="mad-memorisation",
    task="mad_memorization",
    settings=_MODEL
    | {
        "source_model": True,
        "mlp_ratio": 4.125,
        "num_steps": 400,
        "max_grad_norm": 1000.0,
        "num_train_examples": 256,
    },
    variants=_each(vocab_size=(256, 512, 1024, 2048, 4096, 8192)),
    grid=_GRID,
    steps_per_epoch=2,
    cost_s=25 * MINUTE_S,
    code=_CODE,
    deviations=(
        "the table of keys and values is another one, and float32 stands for bfloat16",
        "the last weights are scored, where the source scores its best checkpoint",
        "a run ends at its plateau; norms and biases decay like other weights",
        "the share of right answers, where the source averages over values",
    ),
)
# 12,800 examples in batches of 128, 200 epochs; 66 trainings
COMPRESSION = Protocol(
    name="mad-compression",
    task="mad_compression",
    settings=_MODEL,
    variants=[*_each(vocab_size=(16, 32, 64, 128), seq_len=(64, 128, 256)), *_FEWER],
    grid=_GRID,
    steps_per_epoch=100,
    cost_s=40 * HOUR_S,
    code=_CODE,
    deviations=(
        "LayerNorm, MLPs of GELU and four times the width, and a head that shares the embedding's "
        "weights, where the source has RMSNorm, SwiGLU and a head of its own",
        "float32 stands for bfloat16",
        "a run ends at its plateau",
        "the last weights are scored, where the source scores its best checkpoint",
    ),
)
FUZZY = COMPRESSION.like(
    "mad-fuzzy",
    task="mad_fuzzy_recall",
    variants=[*_each(vocab_size=(16, 32, 64, 128), seq_len=(256, 512, 1024)), *_FEWER],
    cost_s=200 * HOUR_S,
)
RECALL = FUZZY.like("mad-recall", task="mad_recall", cost_s=200 * HOUR_S)
NOISY = FUZZY.like(
    "mad-noisy",
    task="mad_noisy_recall",
    variants=[
        *_each(vocab_size=(32, 48, 80, 144), seq_len=(256, 512, 1024)),
        *_FEWER,
        *_each(noise_share=(0.4, 0.6, 0.8)),
    ],
    cost_s=250 * HOUR_S,
)
COPY = FUZZY.like(
    "mad-copy",
    task="mad_selective_copy",
    variants=[
        *_each(vocab_size=(16, 32, 64, 128), seq_len=(512, 1024)),
        *_FEWER,
        *_each(num_copied=(32, 64, 96)),
    ],
    cost_s=300 * HOUR_S,
)
_USUAL = {
    "compression": COMPRESSION,
    "fuzzy": FUZZY,
    "recall": RECALL,
    "memorisation": MEMORISATION,
    "noisy": NOISY,
    "copy": COPY,
}
SIX = tuple(_USUAL)
FOUR = ("compression", "fuzzy", "memorisation", "copy")
"""Columns of papers in which recall and noisy recall are one."""


def recurrent(protocol: Protocol, **more: Any) -> Protocol:
    """The protocol of a recurrence, which needs no positions and takes twice the time."""
    given: dict[str, Any] = {"settings": {"position": "none"}, "cost_s": 2 * protocol.cost_s}
    return protocol.like(f"{protocol.name}-recurrent", **given | more)


def one_head(protocol: Protocol, deviation: str) -> Protocol:
    """The protocol of a recurrence with one head."""
    settings = {"position": "none", "num_heads": 1}
    return recurrent(protocol, settings=settings, cost_s=45 * MINUTE_S, deviations=(deviation,))


RECURRENT = {name: recurrent(own) for name, own in _USUAL.items()} | {
    "memorisation": one_head(
        MEMORISATION, "one head, as in lin-attn-bench's code: the papers do not say how many"
    )
}
_ROWS = {
    "transformer": ("Transformer", "softmax"),
    "gla": ("GLA", "gla_layer"),
    "deltanet": ("DeltaNet", "deltanet"),
    "gated-deltanet": ("Gated DeltaNet", "gated_deltanet_layer"),
    "linear-attention": ("linear attention", "linear_unnormalised"),
}
"""Titles of the rows, and our rows."""
_DEVIATIONS = {
    "deltanet": "without the authors' short convolution and norm around the rule",
    "linear-attention": "without features, where MAD's linear attention has elementwise products",
}
YOUNGER = (
    "the paper names no commit of mad-lab, and is younger than 756b19f (2024-12-05), since which "
    "linear maps start as torch draws them"
)


def scores(
    paper: str,
    row: str,
    *values: float,
    columns: Sequence[str] = SIX,
    deviations: Sequence[str] = (),
    changed: Mapping[str, Protocol] | None = None,
) -> list[PaperCell]:
    """Cells of a row of MAD's scores in percent.

    Args:
        paper: start of the ids.
        row: a mechanism, one of `_ROWS`.
        values: one for each column.
        columns: names of tasks.
        deviations: of the paper's cells.
        changed: protocols in place of the usual ones, by column.
    """
    title, attention = _ROWS[row]
    usual = (_USUAL if row == "transformer" else RECURRENT) | dict(changed or {})
    return row_of_cells(
        f"{paper}-{row}",
        title,
        {name: usual[name] for name in columns},
        values,
        where="MAD scores",
        obtained="transcription",
        tolerance=2,
        attention=attention,
        deviations=(*deviations, *([_DEVIATIONS[row]] if row in _DEVIATIONS else ())),
    )


def _disagree(row: str, column: str, **values: float) -> Contradiction:
    """A contradiction between cells of several papers."""
    sources = {"mad": "DeltaNet paper", "mesanet": "MesaNet paper", "atlas": "ATLAS paper"}
    names = {paper: paper.replace("_", "-") for paper in values}
    task = "fuzzy recall" if column == "fuzzy" else column
    return Contradiction(
        id=f"mad-{column}-{row}",
        what=f"{'a ' * (row == 'transformer')}{_ROWS[row][0]} on MAD's {task}",
        values={sources.get(paper, names[paper]): value for paper, value in values.items()},
        of=tuple(f"{name}-{row}-{column}" for name in names.values()),
    )


PAPER = Paper(
    title=(
        "Poli et al., 2024, MAD, arXiv:2403.17844, as printed in the DeltaNet paper, "
        "arXiv:2406.06484"
    ),
    entries=(
        *scores("mad", "transformer", 51.6, 29.8, 94.1, 85.2, 86.8, 99.6),
        *scores("mad", "gla", 38.8, 6.9, 80.8, 63.3, 81.6, 88.6),
        *scores("mad", "deltanet", 42.2, 35.7, 100, 52.8, 100, 100),
        _disagree("gated-deltanet", "memorisation", mesanet=81.7, lin_attn_bench=55.2),
        _disagree("gla", "memorisation", mad=63.3, mesanet=82.5, lin_attn_bench=77.1),
        _disagree("deltanet", "memorisation", mad=52.8, mesanet=40.8, lin_attn_bench=39.4),
        _disagree(
            "transformer", "memorisation", mad=85.2, mesanet=84.7, atlas=83.8, lin_attn_bench=78.8
        ),
        _disagree("transformer", "fuzzy", mad=29.8, mesanet=48.6, atlas=48.2, lin_attn_bench=56.5),
        _disagree("gla", "fuzzy", mad=6.9, mesanet=39.0, lin_attn_bench=15.5),
        Contradiction(
            id="mad-average-gla",
            what="GLA's average over MAD's tasks",
            values={
                "DeltaNet paper, over 6 columns": 60.0,
                "MesaNet paper, over 5 columns": 72.0,
                "MesaNet paper, over 6": 76.7,
                "lin-attn-bench, over 6": 67.9,
            },
            note=(
                "recall and noisy recall are one column or two, which alone is worth about 4 points"
            ),
        ),
        Contradiction(
            id="mad-average-transformer",
            what="a Transformer's average over MAD's tasks",
            values={
                "DeltaNet paper, over 6 columns": 74.5,
                "MesaNet paper, over 5 columns": 75.8,
                "MesaNet paper, over 6": 79.8,
                "ATLAS paper, over 5 columns": 75.5,
                "lin-attn-bench, over 6": 76.4,
            },
        ),
    ),
)
