"""PolaFormer's claim about products of unlike signs."""

from bench.studies.reproduce.described import MINUTE_S, Claim, Paper

PAPER = Paper(
    title="Meng et al., 2025, PolaFormer, arXiv:2501.15061",
    entries=(
        Claim(
            id="polaformer-unlike-signs",
            where="polarity-aware attention",
            sentence=(
                "products of unlike signs, which non-negative feature maps drop, carry information"
            ),
            refuted_by=(
                "products of like signs alone explain 95 % or more of the variance of q . k "
                "(upper end of the 95 % interval), or like and unlike signs together less than 99 "
                "%"
            ),
            settings={"num_seeds": 5},
            cost_s=MINUTE_S,
        ),
    ),
)
