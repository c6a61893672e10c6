"""MAD's scores, as MesaNet prints them."""

from functools import partial

from bench.studies.reproduce.described import Paper, PaperCell
from bench.studies.reproduce.papers.mad import FOUR, RECURRENT, YOUNGER, scores

_CONVOLUTION = (
    "with the layer's short convolution over 4 tokens, which may matter as much as the number of "
    "heads; mesanet-gated-deltanet-memorisation-without-convolution leaves it out"
)
_scores = partial(scores, "mesanet", columns=FOUR, deviations=(YOUNGER,))

PAPER = Paper(
    title="von Oswald et al., 2025, MesaNet, arXiv:2506.05233",
    entries=(
        *_scores("transformer", 49.5, 48.6, 84.7, 96.0),
        *_scores("gla", 42.3, 39.0, 82.5, 96.1),
        *_scores("deltanet", 43.3, 55.5, 40.8, 98.8),
        *_scores("gated-deltanet", 45.0, 32.7, 81.7, 95.7, deviations=(YOUNGER, _CONVOLUTION)),
        PaperCell(
            id="mesanet-gated-deltanet-memorisation-without-convolution",
            where="MAD scores",
            what="Gated DeltaNet, memorisation, here without its short convolution",
            attention="gated_deltanet_layer",
            hyperparameters={"conv_size": 0},
            protocol=RECURRENT["memorisation"],
            published=81.7 / 100,
            tolerance=0.02,
            obtained="transcription",
            deviations=(
                "without the layer's short convolution (conv_size=0); its transcription does not "
                "say whether the paper's layer had one",
            ),
        ),
    ),
)
