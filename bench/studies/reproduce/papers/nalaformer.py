"""Sentences, and the one table that isolates the operator, which is of ImageNet-scale training."""

from functools import partial

from bench.studies.reproduce.described import MINUTE_S, Claim, Contradiction, Paper, row_of_cells

_row = partial(row_of_cells, columns={"imagenet": None}, obtained="table", tolerance=0.5)
_GPUS = "ImageNet at 300 epochs is work for many GPUs; see"
_swin = partial(
    _row,
    where="Table 6, attention swapped in Swin-T, ImageNet-1K",
    not_comparable=f"{_GPUS} nalaformer-order-tiles and nalaformer-order-fashion",
)
_ablation = partial(
    _row,
    where="Table 5, ablation in Swin-T, ImageNet-1K",
    not_comparable=f"{_GPUS} nalaformer-ablation-tiles",
)
_order = partial(
    Claim,
    where="Table 6",
    refuted_by=(
        "PolaFormer scores less than FLatten, or NaLa less than PolaFormer: a difference seed by "
        "seed whose 95 % interval lies below 0"
    ),
    by="nalaformer-order",
    cost_s=10 * MINUTE_S,
)
_ORDER = "FLatten < PolaFormer < NaLa in one backbone (82.1, 82.6, 82.9 on ImageNet), here on"
_ORDERED = {"rows": ["flatten", "polaformer", "nala"], "seeds": [0, 1, 2], "claimed": [0.5, 0.3]}

PAPER = Paper(
    title="Meng et al., 2025, NaLaFormer, arXiv:2506.21137v1",
    entries=(
        *_swin("nalaformer-swin-swin", "Swin-T", values=[81.2]),
        *_swin("nalaformer-swin-efficient", "Efficient Attention", values=[81.0]),
        *_swin("nalaformer-swin-flatten", "FLatten", values=[82.1]),
        *_swin("nalaformer-swin-agent", "Agent Attention", values=[82.6]),
        *_swin("nalaformer-swin-polaformer", "PolaFormer", values=[82.6]),
        *_swin("nalaformer-swin-nala", "NaLa", values=[82.9]),
        *_ablation("nalaformer-ablation-relu", "ReLU and constant power", values=[82.1]),
        *_ablation("nalaformer-ablation-cosine", "with cosine inhibition", values=[82.5]),
        *_ablation("nalaformer-ablation-norm-aware", "with norm-aware power", values=[82.9]),
        Claim(
            id="nalaformer-entropy-follows-norm",
            where="Theorem 1, Figures 1 and 4",
            sentence=(
                "the entropy of attention falls with the norm of the query in softmax and in "
                "NaLa, and does not in linear attention"
            ),
            refuted_by=(
                "entropy / ln N of nala does not fall by 0.005 from the smallest norm to the next "
                "(upper end of the 95 % interval over seeds); if it stops falling at a larger "
                "norm the sentence holds below that norm only. A linear row whose entropy falls "
                "by 0.005 between norms 0.1 and 2 or 2 and 8 confines the sentence to the others"
            ),
            settings={
                "of": "nala",
                "against": ["linear", "flatten", "polaformer", "cosformer", "hedgehog", "taylor"],
                "rows": [
                    "softmax",
                    "nala",
                    "nala_cosine",
                    "flatten",
                    "polaformer",
                    "linear",
                    "hedgehog",
                    "taylor",
                    "cosformer",
                ],
                "norms": [0.1, 0.25, 0.5, 1, 2, 3, 4, 6, 8, 16],
                "spread_norms": [1, 4],
                "num_seeds": 5,
            },
            cost_s=MINUTE_S,
        ),
        Claim(
            id="nalaformer-memory-at-70k",
            paper="Meng et al., 2026, NaLaFormer, abstract of a later version",
            where="abstract",
            sentence="peak memory falls by 92.3 % at more than 70,000 tokens",
            refuted_by=(
                "a forward call takes more than 7.7 % of the peak of every baseline, by a dry run "
                "without an interval; where it does so for some of them only, the sentence holds "
                "against the others"
            ),
            settings={
                "of": "nala",
                "baselines": [
                    "softmax_explicit",
                    "softmax",
                    "softmax_chunked",
                    "linear",
                    "flatten",
                    "polaformer",
                ],
                "num_tokens": 70000,
                "claimed": -0.923,
            },
            cost_s=MINUTE_S,
        ),
        Claim(
            id="nalaformer-ablation-tiles",
            where="Table 5",
            sentence=(
                "ReLU with a constant power < with cosine inhibition < with a norm-aware power "
                "(82.1, 82.5, 82.9 on ImageNet)"
            ),
            refuted_by=(
                "a later row of the ablation scores less than the one before it: a difference "
                "seed by seed whose 95 % interval lies below 0"
            ),
            by="nalaformer-ablation",
            settings={
                "task": "tile_recall",
                "settings": {},
                "seeds": [0, 1, 2],
                "claimed": [0.4, 0.4],
            },
            cost_s=10 * MINUTE_S,
        ),
        _order(
            id="nalaformer-order-tiles",
            sentence=f"{_ORDER} tile_recall",
            settings=_ORDERED | {"task": "tile_recall", "settings": {}},
        ),
        _order(
            id="nalaformer-order-fashion",
            sentence=f"{_ORDER} fashion_mnist",
            settings=_ORDERED | {"task": "fashion_mnist", "settings": {"patch_size": 7}},
        ),
        Contradiction(
            id="nalaformer-coco-3x",
            what="NaLaFormer-T with Mask R-CNN on COCO, box AP",
            values={"1x schedule": 47.6, "3x schedule": 46.7},
            note="the longer schedule is below the shorter one, in one paper",
        ),
    ),
)
