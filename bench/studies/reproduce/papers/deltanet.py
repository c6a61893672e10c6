"""DeltaNet's recall, and its claim about the delta rule."""

from bench.studies.reproduce.described import HOUR_S, Claim, Paper, PaperCell
from bench.studies.reproduce.papers.zoology import FIGURE_2

# no convolution, 2 heads
_MQAR = FIGURE_2["L512-d128"].like(
    "deltanet-mqar-d128", settings={"num_heads": 2, "position": "none"}, cost_s=12 * HOUR_S
)

PAPER = Paper(
    title="Yang et al., 2024, DeltaNet, arXiv:2406.06484",
    entries=(
        PaperCell(
            id="deltanet-mqar-d128",
            where="MQAR figure",
            what="DeltaNet, 512 tokens, 64 pairs, width 128",
            attention="deltanet",
            protocol=_MQAR,
            published=1.0,
            tolerance=0.02,
            obtained="plot",
        ),
        Claim(
            id="deltanet-recalls-where-a-decay-does-not",
            where="in-context recall",
            sentence=(
                "a delta rule recalls in context where an additive state with a decay does not"
            ),
            refuted_by=(
                "a decay, at its own searched rate and with the same norm over each head's "
                "output, whose accuracy lies within 10 points of every delta rule's at 4 and at "
                "16 pairs"
            ),
            settings={
                "delta": ["deltanet", "gated_deltanet"],
                "decay": ["gated_deltanet_additive", "retnet", "gla"],
                "num_pairs": [4, 16],
                "settings": {"head_norm": True},
                "seeds": [0, 1, 2, 3, 4],
                "margin": 0.1,
            },
            beside={"task": "recall_causal", "num_pairs": 4, "head_norm": False},
            cost_s=HOUR_S,
        ),
    ),
)
