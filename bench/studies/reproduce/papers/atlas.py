"""MAD's scores, as ATLAS prints them."""

from bench.studies.reproduce.described import Paper
from bench.studies.reproduce.papers.mad import FOUR, YOUNGER, scores

PAPER = Paper(
    title="Behrouz et al., 2025, ATLAS, arXiv:2505.23735",
    entries=scores(
        "atlas", "transformer", 49.4, 48.2, 83.8, 95.9, columns=FOUR, deviations=(YOUNGER,)
    ),
)
