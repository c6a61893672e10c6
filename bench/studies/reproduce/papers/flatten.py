"""FLatten's focusing function, and its convolution."""

from bench.studies.reproduce.described import MINUTE_S, Claim, Paper

PAPER = Paper(
    title="Han et al., 2023, FLatten, arXiv:2308.00442",
    entries=(
        Claim(
            id="flatten-focusing-sharpens",
            where="focused function",
            sentence=(
                "the focusing function makes linear attention's weights sharper, as sharp as "
                "softmax's"
            ),
            refuted_by=(
                "at no spread of q and k both hold: entropy falls from each focusing factor to "
                "the next, and at the largest it is below softmax's (95 % intervals of the "
                "differences seed by seed below 0). Where it holds at some spreads only, `holds "
                "where` names them"
            ),
            settings={
                "factors": [1, 2, 3, 4, 6, 8, 12],
                "spreads": [0.5, 1, 1.5, 2, 3],
                "num_seeds": 5,
            },
            cost_s=MINUTE_S,
        ),
        Claim(
            id="flatten-convolution-restores-rank",
            where="rank restoration",
            sentence=(
                "linear attention's rank is at most head_dim, and a depthwise convolution of the "
                "values restores it"
            ),
            refuted_by=(
                "attention alone has a rank above head_dim, or attention with the convolution has "
                "none above it, or one that is not the convolution's own"
            ),
            settings={"side": 14, "num_seeds": 5},
            cost_s=MINUTE_S,
        ),
    ),
)
