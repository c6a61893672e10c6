"""Claims that train nothing, at small sizes: what is known of each must come out."""

from itertools import product

import pytest
import torch

from attentions.maths.orthogonal import orthogonal_gaussian
from bench.studies.diagnostics.samples import Size, normal
from bench.studies.reproduce.claims import flatten, guesses, hedgehog, signs
from bench.studies.reproduce.claims.flatten import convolution_restores_rank, focusing_sharpens
from bench.studies.reproduce.claims.guesses import listops_constant_answer, task_guess
from bench.studies.reproduce.claims.hedgehog import judged, spiky_and_monotone
from bench.studies.reproduce.claims.nalaformer import _peak, entropy_follows_norm, memory_at_70k
from bench.studies.reproduce.claims.performer import _biases, performer_unbiased
from bench.studies.reproduce.claims.samples import core_of, falls, row_over
from bench.studies.reproduce.claims.signs import unlike_signs
from bench.studies.reproduce.verdicts import PaperVerdict, share_interval


def test_a_row_has_an_interval_from_two_samples_on():
    row = row_over("x", [1.0, 2.0, 3.0])
    assert row.low < row.value == 2 < row.high
    with pytest.raises(ValueError, match="two or more"):
        row_over("x", [1.0])


def test_a_fall_is_told_by_its_interval():
    assert falls([1.0, 1.0, 1.0], [0.8, 0.81, 0.82]) and not falls([1.0] * 3, [0.8, 1.2, 0.7])
    assert not falls([1.0, 1.0, 1.0], [0.8, 0.81, 0.82], by=0.18)


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


def test_a_row_whose_entropy_is_not_to_fall_confines_the_sentence(lab):
    found = entropy_follows_norm(
        lab,
        rows=["softmax", "taylor", "flatten", "nala"],
        of="softmax",
        norms=[1.0, 2.0, 4.0, 8.0],
        spread_norms=[0.5, 4.0],
        num_seeds=2,
        against=["flatten", "taylor", "nala"],
    )
    assert found.verdict is PaperVerdict.HOLDS_WHERE
    assert found.words.endswith("; entropy falls in taylor and nala too")  # in nala to 2 only
    assert value(found, "softmax, norm 2 to 8") < -0.1
    low, high = (
        next(r for r in found.rows if r.name.startswith("nala, rank") and r.name.endswith(norm))
        for norm in (" 0.5", " 4")
    )
    assert low.value < high.value - 0.1 and low.low < low.value < low.high


def test_memory_falls_against_written_scores_and_not_against_fused_attention(lab):
    baselines = ["softmax_explicit", "softmax"]
    found = memory_at_70k(lab, of="nala", baselines=baselines, num_tokens=2048, claimed=-0.9)
    assert found.verdict is PaperVerdict.HOLDS_WHERE
    assert "the baseline is softmax_explicit" in found.words
    change = _peak("nala", 2048) / _peak("softmax", 2048) - 1
    assert value(found, "change against softmax, %") == pytest.approx(100 * change) and change > 0
    assert _peak("nala_rope", 2048) > _peak("nala", 2048)  # by the row's own settings


@pytest.mark.parametrize(
    ("factors", "spreads", "verdict"),
    [
        ([1, 3], [0.5], PaperVerdict.HOLDS),  # softmax is blunter there
        ([1, 3], [0.5, 3], PaperVerdict.HOLDS_WHERE),
        ([1, 12], [1.5], PaperVerdict.HOLDS),  # though softmax is sharper than factor 1
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
    if len(spreads) == 2:
        assert "that of softmax is 0.994 to 0.1" in found.words


def test_the_convolution_has_the_rank_that_it_restores(lab):
    found = convolution_restores_rank(lab, side=8, num_seeds=2)
    assert found.verdict is PaperVerdict.HOLDS
    assert value(found, "flatten, rank") <= 32
    assert value(found, "convolution alone, rank") == 64
    effective = next(row for row in found.rows if row.name == "flatten, effective rank")
    assert effective.low < effective.value < effective.high  # over seeds


@pytest.mark.parametrize(
    ("alone", "both", "convolution", "verdict"),
    [
        (30, 40, 40, PaperVerdict.HOLDS),
        (33, 40, 40, PaperVerdict.DOES_NOT_HOLD),
        (30, 31, 31, PaperVerdict.DOES_NOT_HOLD),
        (30, 36, 40, PaperVerdict.DOES_NOT_HOLD),
    ],
)
def test_a_rank_is_restored_if_it_is_that_of_the_convolution(
    lab, monkeypatch, alone, both, convolution, verdict
):
    names = ("flatten", "flatten and convolution", "convolution alone", "softmax")
    ranks = zip(names, (alone, both, convolution, 40), strict=True)
    given = {name: torch.diag((torch.arange(40) < rank).double()) for name, rank in ranks}
    monkeypatch.setattr(flatten, "_matrices", lambda *_: given)
    assert convolution_restores_rank(lab, side=8, num_seeds=2).verdict is verdict


def test_like_and_unlike_signs_make_the_whole_product(lab):
    found = unlike_signs(lab, num_seeds=2)
    assert found.verdict is PaperVerdict.HOLDS
    shares = [row.value for row in found.rows]
    # Half of the products have unlike signs; those of like signs alone leave out a third.
    assert shares == pytest.approx([0.5, 0.26, 0.64, 1.0, 0.67, -0.67], abs=0.03)


@pytest.mark.parametrize(
    ("alone", "both", "verdict"),
    [
        (0.6, 1.0, PaperVerdict.HOLDS),
        (0.96, 1.0, PaperVerdict.DOES_NOT_HOLD),
        (0.6, 0.98, PaperVerdict.DOES_NOT_HOLD),
    ],
)
def test_unlike_signs_carry_information_only_if_like_ones_leave_some_out(
    lab, monkeypatch, alone, both, verdict
):
    numbers = dict(zip("abcdef", (0.5, 0.3, alone, both, 0.7, -0.7), strict=True))
    monkeypatch.setattr(signs, "_numbers", lambda seed: numbers)
    assert unlike_signs(lab, num_seeds=2).verdict is verdict


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


def test_each_seed_has_a_map_of_its_own_and_the_least_trained_one_counts(lab, monkeypatch):
    fell, seeds = {0: 0.0, 1: 0.02, 2: 0.0}, []

    def trained(std, rate, num_steps, seed):
        seeds.append(seed)
        core = core_of("hedgehog", Size(), seed)
        return hedgehog._Map(core=core, loss=abs(rate - best), fell=fell[seed])

    def found():
        return spiky_and_monotone(lab, rows=["linear"], std=1.5, num_steps=6, num_seeds=3)

    monkeypatch.setattr(hedgehog, "_trained", trained)
    best = 0.01
    assert found().words.startswith("the map still learned at the end: ")
    assert seeds == [0, 0, 0, 0, 1, 2]
    fell[1] = 0.0
    assert found().verdict is PaperVerdict.DOES_NOT_HOLD and found().rows[3].rate == best
    best = 100.0
    assert found().verdict is PaperVerdict.UNTUNED


@pytest.mark.parametrize(
    ("trained", "earlier", "verdict", "words"),
    [
        ((0.6, 0.9), (0.9, 0.5), PaperVerdict.HOLDS, "entropy / ln N is 0.50 of softmax"),
        ((0.7, 0.8), (0.6, 0.5), PaperVerdict.HOLDS_WHERE, "the earlier maps are elu: "),
        ((0.1, 0.9), (0.6, 0.5), PaperVerdict.HOLDS_WHERE, "the earlier maps are elu: "),
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
    if verdict is PaperVerdict.HOLDS_WHERE:  # and where every earlier map is as near
        assert judged(spread, order, ["performer"])[0] is PaperVerdict.DOES_NOT_HOLD


def test_the_kernel_is_unbiased_and_the_weights_are_not(lab):
    sizes = {"num_features": [8], "norms": [0.5, 1.0]}
    found = performer_unbiased(lab, **sizes, num_draws=200, num_groups=10)
    kernel, weights, _ = found.rows[3:]
    assert "in total variation (8 features, norm 1), and" in found.words
    assert found.verdict is PaperVerdict.HOLDS_WHERE
    assert kernel.low is not None and kernel.high is not None and kernel.low < 0 < kernel.high
    assert weights.low is not None and weights.low > 0
    # A kernel that overflows has no bias that could be called none.
    found = performer_unbiased(lab, num_features=[8], norms=[120, 1], num_draws=4, num_groups=2)
    assert "an interval without 0 at 8 features, norm 120;" in found.words


def test_biases_are_those_of_the_features_written_out():
    kernel, ratio, error = _biases(size := Size(num_heads=1, num_tokens=6), 2.0, 8, 4, 2)
    q, k = (normal(size, 0, purpose)[0, 0] for purpose in (0, 1))
    x, y = (z / z.norm(dim=-1, keepdim=True) for z in (q, k))  # norm 2, over the root of 4
    exact = (x @ y.T).exp()
    estimates = torch.zeros(2, 2, 6, 6, dtype=torch.float64)
    for group, draw in product(range(2), range(2)):
        w = orthogonal_gaussian(8, 16, unit_scale=False, seed=group, draw=draw).double()
        phi_x, phi_y = ((z @ w.T).exp() * (-(z**2).sum(-1, keepdim=True) / 2).exp() for z in (x, y))
        estimates[group, draw] = phi_x @ phi_y.T / 8
    relative = estimates / exact - 1
    assert torch.allclose(kernel, relative.mean((1, 2, 3)))
    weights = (estimates / estimates.sum(-1, keepdim=True)).mean(1)
    away = (weights - exact / exact.sum(-1, keepdim=True)).abs().sum(-1) / 2
    assert torch.allclose(ratio, away.mean(-1))
    assert error == pytest.approx(relative.square().mean().sqrt().item())


def test_guesses_follow_from_the_settings(lab):
    found = task_guess(lab, task="associative_recall", overrides={"vocab_size": 10})
    assert found.value == pytest.approx(0.25)
    constant = listops_constant_answer(lab, num_examples=250)
    assert constant.value is not None and 0.1 < constant.value < 0.25
    more = listops_constant_answer(lab, num_examples=499)  # a whole part and most of another
    counts = guesses._counts(lab, 499)
    assert counts.total() == 499 and more.value == max(counts.values()) / 499
    assert (more.low, more.high) == share_interval(more.value, 499)
