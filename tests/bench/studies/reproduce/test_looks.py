"""Looks at a claim: where they end, and how often they decide wrongly."""

import io
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from bench.core.comparison import Runs, compare
from bench.measuring.worker.jobs import Deadline
from bench.studies.reproduce.claims.nalaformer import order, ordered
from bench.studies.reproduce.claims.recall import (
    Gap,
    judged,
    recall_grows_with_state,
)
from bench.studies.reproduce.findings import Finding
from bench.studies.reproduce.looks import BudgetSpent, Looks, decide
from bench.studies.reproduce.verdicts import DECIDED, PaperVerdict
from bench.studies.session import Stopped
from tests.bench.studies.reproduce.conftest import seeded

LOOKS = Looks(numbers=(3, 5, 8, 12))
PLAN = "(at 3, 5, 8, 12 seeds)"
NUM_STUDIES = 2000
ORDER = {
    "rows": ["flatten", "nala"],
    "task": "tile_recall",
    "settings": {},
    "seeds": [0, 1, 2],
    "claimed": [0.3],
}


def rising(*gaps):
    """Scores of two rows, of which nala is ahead by these gaps."""
    return lambda name, settings: [0.5 + gap * (name == "nala") for gap in gaps]


CLEAR = (0.3, 0.301, 0.302)
LATER = (0.1, 0.13, 0.19, 0.12, 0.11)
"""Told from 0 by three seeds at 5 %, which the first look may not spend, and then by five."""
NEVER = (0.1, -0.1, 0.05, -0.06) * 3


def test_a_claim_is_decided_at_the_first_look_that_tells(lab):
    found = decide(order, lab.given(rising(*CLEAR)), ORDER, LOOKS)
    assert found.verdict is PaperVerdict.HOLDS
    words = f"decided at look 1 of 4 {PLAN}, 3 seeds, level 0.0125 of 0.05: on tile_recall with 3 "
    assert found.words.startswith(words)
    assert found.looks == (3, 5, 8, 12)


def test_a_look_may_not_spend_what_the_others_need(lab):
    lab.given(rising(*LATER))
    assert order(lab, **ORDER | {"seeds": [0, 1, 2]}).verdict is PaperVerdict.HOLDS
    found = decide(order, lab, ORDER, LOOKS)
    assert found.verdict is PaperVerdict.HOLDS
    assert found.words.startswith(f"decided at look 2 of 4 {PLAN}, 5 seeds, level 0.0083 of 0.05: ")


def test_looks_that_tell_nothing_end_at_the_largest_number(lab):
    lab.session.console = Console(file=(shown := io.StringIO()), width=200)
    found = decide(order, lab.given(rising(*NEVER)), ORDER, LOOKS)
    assert found.verdict is PaperVerdict.NOT_RESOLVABLE
    assert found.words.startswith(f"not decided with 12 seeds at look 4 of 4 {PLAN}, 12 seeds, ")
    told = shown.getvalue().splitlines()
    assert [line.split(" (at")[0] for line in told] == [
        f"  not decided at look {n} of 4" for n in (1, 2, 3, 4)
    ]


@pytest.mark.parametrize(
    "verdict", [PaperVerdict.NO_VERDICT, PaperVerdict.UNTUNED, PaperVerdict.ONE_SEED]
)
def test_a_verdict_that_is_none_does_not_end_the_looks(lab, verdict):
    looked: list[tuple[list[int], float]] = []

    def claim(lab, *, seeds):
        looked.append((seeds, lab.level))
        return Finding(verdict=PaperVerdict.HOLDS_WHERE if len(seeds) == 8 else verdict, words="w")

    assert decide(claim, lab, {"seeds": [4, 5]}, LOOKS).verdict is PaperVerdict.HOLDS_WHERE
    assert [seeds for seeds, _ in looked] == [list(range(n)) for n in (3, 5, 8)]
    assert [level for _, level in looked] == pytest.approx(LOOKS.spent[:3])


def test_a_budget_that_ends_between_looks_says_how_far_they_came(lab):
    def slow(lab, **settings):
        if len(settings["seeds"]) == 5:
            lab.until = Deadline(0.0)
        return order(lab, **settings)

    lab.given(rising(*NEVER))
    with pytest.raises(BudgetSpent, match=r"^not decided at look 2 of 4 .* 5 seeds, .*resolvable$"):
        decide(slow, lab, ORDER, LOOKS)


def test_a_budget_that_ends_in_training_is_told_from_ctrl_c(lab):
    def stopped(lab, **settings):
        raise Stopped

    lab.until = Deadline(0.0)
    with pytest.raises(BudgetSpent, match="the first look was not reached"):
        decide(stopped, lab, ORDER, LOOKS)
    lab.until = Deadline(float("inf"))
    with pytest.raises(Stopped):
        decide(stopped, lab, ORDER, LOOKS)


def test_what_the_looks_spend_adds_up_to_the_level_in_step_with_the_seeds():
    assert Looks().spent == pytest.approx((0.0125, 0.05 / 12, 0.1 / 12, 0.1 / 12, 0.2 / 12))
    for numbers in ((2,), (5, 50), tuple(range(2, 40))):
        assert sum(Looks(numbers=numbers).spent) == pytest.approx(0.05)


def order_of(draws):
    def claim(lab, *, seeds):
        scores = {name: list(own[: len(seeds)]) for name, own in zip("abc", draws, strict=False)}
        return ordered(seeded(scores), [1.0, 1.0], "task", lab.level)

    return claim


def delta_rule_of(draws):
    """One delta rule whose lead over each of three decays is just the margin."""

    def claim(lab, *, seeds):
        runs = [Runs(scores=dict(enumerate(own[: len(seeds)]))) for own in draws]
        gaps = []
        for index, other in enumerate(runs[1:]):
            found = compare(runs[0], other)
            assert found is not None
            gap = Gap(pairs=4, delta="d", decay=str(index), difference=found, beyond=found)
            gaps.append(gap)
        verdict, words = judged(gaps, 0.0, lab.level)
        return Finding(verdict=verdict, words=words)

    return claim


@pytest.mark.slow
@pytest.mark.parametrize(("claim_of", "num_arms"), [(order_of, 3), (delta_rule_of, 4)])
def test_of_studies_where_nothing_differs_at_most_6_in_100_are_decided(lab, claim_of, num_arms):
    looks = Looks()
    draws = np.random.default_rng(3).normal(0.7, 0.05, (NUM_STUDIES, num_arms, looks.numbers[-1]))
    found = [decide(claim_of(own), lab, {"seeds": [0]}, looks).verdict for own in draws]
    assert sum(verdict in DECIDED for verdict in found) / NUM_STUDIES <= 0.06


def test_a_size_that_one_look_at_5_per_cent_would_tell_waits_for_its_share(lab):
    def scores(name, settings):
        more = (0.1, 0.14, 0.2) if settings["num_heads"] == 2 else (0.0, 0.0, 0.0)
        return [0.5 + gap for gap in more]

    def found():
        given: dict[str, Any] = {"num_heads": [8, 2], "settings": {"embed_dim": 64}}
        return recall_grows_with_state(lab, entry="linear", seeds=[0, 1, 2], **given).verdict

    lab.given(scores)
    assert found() is PaperVerdict.HOLDS_WHERE
    lab.level = LOOKS.spent[0]
    assert found() is PaperVerdict.NOT_RESOLVABLE
