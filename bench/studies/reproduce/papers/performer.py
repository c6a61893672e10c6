"""Performer's claim about its random features."""

from bench.studies.reproduce.described import MINUTE_S, Claim, Paper

PAPER = Paper(
    title="Choromanski et al., 2021, Performer, arXiv:2009.14794",
    entries=(
        Claim(
            id="performer-unbiased",
            where="Lemma 1",
            sentence=(
                "positive random features estimate softmax's kernel without bias, with any number "
                "of features, D ln D of them for accuracy"
            ),
            refuted_by=(
                "the kernel's relative bias has a 95 % interval without 0 at more than one in "
                "twenty of the sizes and norms, and one besides; bias of the weights, which are a "
                "ratio, confines the sentence to the kernel"
            ),
            settings={
                "num_features": [8, 16, 32, 44],
                "norms": [0.5, 1, 2],
                "num_draws": 2000,
                "num_groups": 20,
            },
            cost_s=MINUTE_S,
        ),
    ),
)
