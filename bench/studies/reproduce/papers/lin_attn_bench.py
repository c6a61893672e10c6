"""A repository whose page is about how far published MAD tables lie apart.

Its models are flash-linear-attention's.
"""

from functools import partial

from bench.studies.reproduce.described import MINUTE_S, Code, Paper
from bench.studies.reproduce.papers.mad import MEMORISATION, one_head, scores

# mad-lab after 756b19f: linear maps start as torch draws them
_MEMORISATION = MEMORISATION.like(
    "mad-memorisation-2025",
    settings={"linear_std": 0.0},
    code=Code(
        repository="https://github.com/HassanJbara/lin-attn-bench",
        commit="unknown",
        date="2025-08-31",
        reason="its page names no commit and August 2025 alone",
    ),
    cost_s=25 * MINUTE_S,
)
_ONE_HEAD = one_head(_MEMORISATION, "one head, where its models have two of 64")
_DEVIATIONS = (
    "its scores are of August 2025: a mad-lab after 756b19f, in which linear maps start as torch "
    "draws them",
    "a flash-linear-attention after d30c0833, which dropped a small gain of the first weights",
    "two heads of 64, where the mechanisms here have the number that the protocol names",
    "MAD's data as published on Zenodo, where examples here are drawn anew",
)

_scores = partial(
    scores, "lin-attn-bench", deviations=_DEVIATIONS, changed={"memorisation": _ONE_HEAD}
)

PAPER = Paper(
    title="HassanJbara, lin-attn-bench, https://github.com/HassanJbara/lin-attn-bench",
    entries=(
        *_scores(
            "transformer",
            *(43.2, 56.5, 90.5, 78.8, 89.7, 99.8),
            deviations=(*_DEVIATIONS, "16 heads, as of MAD's attention, where its code has 2"),
            changed={"memorisation": _MEMORISATION},
        ),
        *_scores("gated-deltanet", 43.5, 28.6, 99.9, 55.2, 99.9, 99.7),
        *_scores("gla", 40.8, 15.5, 91.8, 77.1, 93.1, 89.1),
        *_scores("deltanet", 39.6, 39.3, 99.9, 39.4, 99.9, 99.7),
    ),
)
