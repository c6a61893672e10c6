"""Hedgehog's claim about the weights of feature maps."""

from bench.studies.reproduce.described import MINUTE_S, Claim, Paper

PAPER = Paper(
    title="Zhang et al., 2024, Hedgehog, arXiv:2402.04347",
    entries=(
        Claim(
            id="hedgehog-spiky-and-monotone",
            where="properties of softmax attention",
            sentence=(
                "softmax's weights are spiky and rise with q . k; earlier feature maps lack both, "
                "and a map trained to match softmax has both"
            ),
            refuted_by=(
                "the trained map is not nearer to softmax than to uniform weights, in entropy / "
                "ln N (uniform: 1) or in rank correlation with q . k (uniform: 0), by a 95 % "
                "interval over seeds. An earlier map that is not farther from softmax than the "
                "trained one, in either number, confines the sentence to the others"
            ),
            not_tested=(
                "on trained attention, on which the paper trains its map, but on random queries "
                "and keys"
            ),
            settings={
                "rows": ["linear", "performer", "performer_relu", "cosformer"],
                "std": 1.5,
                "num_steps": 600,
                "num_seeds": 3,
            },
            cost_s=30 * MINUTE_S,
        ),
    ),
)
