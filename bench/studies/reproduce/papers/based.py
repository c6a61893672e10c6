"""Recall against the size of the state, on Based's mix of five lengths.

Values were read off the plot of Zoology's page, to 0.02; the plot names the size of the state, from
which widths here follow.
"""

from functools import partial

from bench.studies.reproduce.described import (
    HOUR_S,
    MINUTE_S,
    Claim,
    Code,
    Paper,
    PaperCell,
    Protocol,
)

# 180,000 examples in batches of 256, 32 epochs, tested on 256 tokens with 64 pairs
_D64 = Protocol(
    name="based-mix-d64",
    task="mqar",
    settings={
        "based_mix": True,
        "filler": "random",
        "seq_len": 256,
        "num_pairs": 64,
        "num_train_examples": 180000,
        "batch_size": 256,
        "num_steps": 22496,
        "learning_rate": 0.00316,
        "warmup_share": 0.0,
        "mlp_ratio": 1,
        "position": "none",
        "num_test_examples": 1000,
    },
    steps_per_epoch=703,
    cost_s=8 * HOUR_S,
    code=Code(
        repository="https://github.com/HazyResearch/zoology",
        commit="unknown",
        date="2025-03-06",
        reason=(
            "the plot on Zoology's page names no commit; its mechanisms were added to the code "
            "between 2024-12-28 and 2025-03-06"
        ),
    ),
    deviations=(
        "one rate, 3.16e-3, of the four that the paper searches",
        "both layers have a convolution and the mechanism, where the paper's first has a gated "
        "convolution only",
        "tested on 256 tokens with 64 pairs, where the plot's number is a mean over seven sizes",
        "each block has an MLP of the model's width, where the paper has none",
    ),
)
_D128 = _D64.like("based-mix-d128", settings={"embed_dim": 128}, cost_s=16 * HOUR_S)
_D256 = _D64.like("based-mix-d256", settings={"embed_dim": 256}, cost_s=40 * HOUR_S)
_point = partial(PaperCell, where="recall against state", tolerance=0.04, obtained="plot")
_HYBRID = (
    "Based's layers are hybrids of a window and a Taylor map, in a proportion that the plot does "
    "not name"
)

PAPER = Paper(
    title="Arora et al., 2024, Based, arXiv:2402.18668, by Zoology's page",
    entries=(
        *(
            _point(
                id=f"based-{name}",
                what=f"{what} elements of state",
                attention=attention,
                protocol=protocol,
                published=published,
            )
            for name, what, attention, protocol, published in (
                ("deltanet-9k", "DeltaNet, 9k", "deltanet", _D64, 0.79),
                ("deltanet-33k", "DeltaNet, 33k", "deltanet", _D128, 0.96),
                ("deltanet-131k", "DeltaNet, 131k", "deltanet", _D256, 0.995),
                ("gated-deltanet-17k", "Gated DeltaNet, 17k", "gated_deltanet_layer", _D64, 0.89),
                ("gated-deltanet-65k", "Gated DeltaNet, 65k", "gated_deltanet_layer", _D128, 0.99),
                ("gla-5k", "GLA, 4.8k", "gla_layer", _D64, 0.53),
                ("gla-18k", "GLA, 18k", "gla_layer", _D128, 0.77),
                ("gla-68k", "GLA, 68k", "gla_layer", _D256, 0.95),
                ("mamba2-8k", "Mamba-2, 8k", "mamba2_ssd_layer", _D64, 0.52),
                ("mamba2-16k", "Mamba-2, 16k", "mamba2_ssd_layer", _D128, 0.69),
                ("mamba2-65k", "Mamba-2, 65k", "mamba2_ssd_layer", _D256, 0.83),
            )
        ),
        *(
            _point(
                id=f"based-taylor-{size}",
                what=f"Based, {size} elements of state",
                published=published,
                not_comparable=_HYBRID,
            )
            for size, published in (("9k", 0.67), ("12k", 0.72), ("40k", 0.91), ("80k", 0.985))
        ),
        _point(
            id="based-attention",
            what="softmax attention",
            attention="softmax",
            protocol=_D128,
            published=1.0,
        ),
        Claim(
            id="based-recall-grows-with-state",
            paper="Arora et al., 2024, Based, arXiv:2402.18668",
            where="recall and the size of the state",
            sentence="recall grows with the size of the recurrent state",
            refuted_by=(
                "a larger state recalls less than a smaller one: a difference seed by seed, "
                "between neighbouring sizes or between the smallest and the largest, whose 95 % "
                "interval lies below 0. Heads are fewer and wider as the state grows, so head_dim "
                "varies with it: at most `holds where`"
            ),
            settings={
                "entry": "linear",
                "num_heads": [16, 8, 4, 2],
                "settings": {"embed_dim": 64, "num_pairs": 8, "num_steps": 600},
                "seeds": [0, 1, 2],
            },
            cost_s=10 * MINUTE_S,
        ),
    ),
)
