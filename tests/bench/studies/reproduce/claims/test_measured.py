"""Claims that train nothing, at small sizes: what is known of each must come out."""

import pytest

from bench.core.cli.errors import ConfigError
from bench.measuring.weights import NoWeights
from bench.studies.reproduce.claims.flatten import convolution_restores_rank, focusing_sharpens
from bench.studies.reproduce.claims.guesses import listops_constant_answer, task_guess
from bench.studies.reproduce.claims.hedgehog import judged, spiky_and_monotone
from bench.studies.reproduce.claims.memory import memory_at_70k
from bench.studies.reproduce.claims.norms import entropy_follows_norm
from bench.studies.reproduce.claims.performer import performer_unbiased
from bench.studies.reproduce.claims.samples import row_over
from bench.studies.reproduce.claims.signs import unlike_signs
from bench.studies.reproduce.verdicts import PaperVerdict, share_interval


def test_a_row_has_an_interval_from_two_samples_on():
    row = row_over("x", [1.0, 2.0, 3.0])
    assert row.low < row.value == 2 < row.high
    with pytest.raises(ValueError, match="two or more"):
        row_over("x", [1.0])


def value(finding, name):
    return next(row.value for row in finding.rows if row.name == name)


@pytest.mark.parametrize(
    ("of", "verdict"),
    [
        ("softmax", PaperVerdict.HOLDS),
        ("nala", PaperVerdict.HOLDS_WHERE),
        ("polaformer", PaperVerdict.DOES_NOT_HOLD),
    ],
)
def test_entropy_falls_with_the_norm_in_softmax_and_to_some_norm_in_nala(lab, of, verdict):
    norms = [1.0, 2.0, 4.0, 8.0]
    found = entropy_follows_norm(
        lab, rows=[of], of=of, norms=norms, spread_norms=[4.0], num_seeds=2
    )
    assert found.verdict is verdict
    assert found.curves is not None and len(found.curves.lines[of]) == 4
    for more in ({"of": "linear"}, {"norms": [1.0, 4.0]}):
        with pytest.raises(ConfigError, match="must hold 2 and 8"):
            entropy_follows_norm(
                lab, **{"rows": [of], "of": of, "norms": norms} | more, spread_norms=[], num_seeds=2
            )


def test_a_row_whose_entropy_is_not_to_fall_confines_the_sentence(lab):
    found = entropy_follows_norm(
        lab,
        rows=["softmax", "taylor", "flatten"],
        of="softmax",
        norms=[1.0, 2.0, 4.0, 8.0],
        spread_norms=[],
        num_seeds=2,
        against=["flatten", "taylor"],
    )
    assert found.verdict is PaperVerdict.HOLDS_WHERE
    assert found.words.endswith("; entropy falls in taylor too")


def test_a_mechanism_without_weights_is_left_out_with_the_reason(lab):
    norms = [1.0, 2.0, 8.0]
    rows = ["softmax", "local_only", "deltanet", "nala_layer"]
    found = entropy_follows_norm(
        lab, rows=rows, of="softmax", norms=norms, spread_norms=[], num_seeds=2
    )
    assert found.curves is not None and list(found.curves.lines) == ["softmax"]
    said = " ".join(lab.session.console.file.getvalue().split())
    assert said.count("Left out: ") == 3
    assert "deltanet is causal only" in said and "nala_layer has no weights" in said
    with pytest.raises(NoWeights, match="it owns its projections"):
        entropy_follows_norm(
            lab, rows=rows, of="nala_layer", norms=norms, spread_norms=[], num_seeds=2
        )


def test_memory_falls_against_written_scores_and_not_against_fused_attention(lab):
    baselines = ["softmax_explicit", "softmax"]
    found = memory_at_70k(lab, of="nala", baselines=baselines, num_tokens=2048, claimed=-0.9)
    assert found.verdict is PaperVerdict.HOLDS_WHERE
    assert "the baseline is softmax_explicit" in found.words
    assert value(found, "change against softmax, %") > 0


@pytest.mark.parametrize(
    ("factors", "spreads", "verdict"),
    [
        ([1, 3], [0.5], PaperVerdict.HOLDS),  # softmax is blunter there
        ([1, 3], [0.5, 3], PaperVerdict.HOLDS_WHERE),
        ([1, 3], [3], PaperVerdict.DOES_NOT_HOLD),
        ([3, 1], [0.5], PaperVerdict.DOES_NOT_HOLD),
    ],
)
def test_focusing_sharpens_beyond_softmax_where_queries_and_keys_are_short(
    lab, factors, spreads, verdict
):
    found = focusing_sharpens(lab, factors=factors, spreads=spreads, num_seeds=2)
    assert found.verdict is verdict
    assert found.words.startswith("the spread is 0.5: ") == (verdict is PaperVerdict.HOLDS_WHERE)


def test_the_convolution_has_the_rank_that_it_restores(lab):
    found = convolution_restores_rank(lab, side=8, num_seeds=2)
    assert found.verdict is PaperVerdict.HOLDS
    assert value(found, "flatten, rank") <= 32
    assert value(found, "convolution alone, rank") == 64


def test_like_and_unlike_signs_make_the_whole_product(lab):
    found = unlike_signs(lab, num_seeds=2)
    assert found.verdict is PaperVerdict.HOLDS
    name = "share of the variance of q . k by like and unlike signs"
    assert value(found, name) == pytest.approx(1)


def test_a_map_that_still_learns_has_no_verdict(lab):
    found = spiky_and_monotone(lab, rows=["linear"], std=1.5, num_steps=6, num_seeds=2)
    assert value(found, "softmax, rank correlation with q . k") == pytest.approx(1)
    assert found.verdict is PaperVerdict.NO_VERDICT
    assert found.words.startswith("the map still learned at the end: the trained map is not spiky")
    trained = [row for row in found.rows if "trained" in row.name]
    assert [(row.rate_chosen, row.steps, row.num_seeds) for row in trained] == [
        ("searched", "6 of 6", 2)
    ] * 2
    assert all(row.rate is None for row in found.rows if row not in trained)


@pytest.mark.parametrize(
    ("trained", "earlier", "verdict", "words"),
    [
        ((0.6, 0.9), (0.9, 0.5), PaperVerdict.HOLDS, "entropy / ln N is 0.50 of softmax"),
        ((0.7, 0.8), (0.6, 0.5), PaperVerdict.HOLDS_WHERE, "the earlier maps are elu: "),
        ((0.9, 0.9), (0.95, 0.5), PaperVerdict.DOES_NOT_HOLD, "the trained map is not spiky: "),
        ((0.6, 0.3), (0.9, 0.2), PaperVerdict.DOES_NOT_HOLD, "the trained map is not monotone: "),
    ],
)
def test_a_trained_map_must_come_near_softmax_and_nearer_than_earlier_ones(
    trained, earlier, verdict, words
):
    rows = {
        "softmax": (0.5, 1.0),
        "hedgehog": (0.98, 0.8),
        "hedgehog, trained to match": trained,
        "elu": (0.99, 0.1),
        "performer": earlier,
    }
    spread, order = ({name: [own[i]] * 3 for name, own in rows.items()} for i in (0, 1))
    found, said = judged(spread, order, ["elu", "performer"])
    assert found is verdict and said.startswith(words)


def test_the_kernel_is_unbiased_and_the_weights_are_not(lab):
    found = performer_unbiased(lab, num_features=[8], norms=[1.0], num_draws=200, num_groups=10)
    kernel, weights, _ = found.rows
    assert found.verdict is PaperVerdict.HOLDS_WHERE
    assert kernel.low is not None and kernel.high is not None and kernel.low < 0 < kernel.high
    assert weights.low is not None and weights.low > 0
    # A kernel that overflows has no bias that could be called none.
    found = performer_unbiased(lab, num_features=[8], norms=[120, 1], num_draws=4, num_groups=2)
    assert "an interval without 0 at 8 features, norm 120;" in found.words
    with pytest.raises(ConfigError, match="without a projection"):
        performer_unbiased(lab, num_features=[8], norms=[1.0], num_draws=1, num_groups=2)


def test_guesses_follow_from_the_settings(lab):
    found = task_guess(lab, task="associative_recall", overrides={"vocab_size": 10})
    assert found.value == pytest.approx(0.25)
    constant = listops_constant_answer(lab, num_examples=250)
    assert constant.value is not None and 0.1 < constant.value < 0.25
    more = listops_constant_answer(lab, num_examples=499)  # a whole part and most of another
    low, high = share_interval(more.value, 499)
    assert more.value == pytest.approx(round(more.value * 499) / 499) and more.value > 0.13
    assert (more.low, more.high) == (low, high)
