"""MAD's scores, as ZeroS prints them."""

from bench.studies.reproduce.described import Paper
from bench.studies.reproduce.papers.mad import YOUNGER, scores

PAPER = Paper(
    title="Lu et al., 2026, ZeroS, arXiv:2602.05230",
    entries=scores(
        "zeros", "linear-attention", 31.1, 8.15, 91.0, 74.9, 75.6, 93.1, deviations=(YOUNGER,)
    ),
)
