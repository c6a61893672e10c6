from bench.measuring.costs.proof import FlopProof, FlopVerdict
from bench.studies.verify.flop_table import reasons, summary, table

GOOD = FlopProof(
    mechanism="nala",
    form="causal",
    status=FlopVerdict.CONFIRMED,
    shape="B1 H1 N24 D16 E8",
    formula=14_400,
    needed=14_400,
    method="pair by pair",
    executed=27_648,
    counted=27_649,
)
BAD = FlopProof(mechanism="x", form="cross", status=FlopVerdict.FAILED, reason="KeyError: 3")
OPEN = FlopProof(
    mechanism="y", form="decode", status=FlopVerdict.UNCONFIRMED, reason="nothing confirms it"
)


def text(*proofs):
    return " ".join(" ".join(row) for row in table(proofs).texts())


def test_formula_what_is_needed_and_counter_stand_side_by_side():
    assert "pair by pair 14,400 14,400 27,648 27,649" in text(GOOD)


def test_numbers_that_are_not_there_are_left_empty():
    assert "x cross failed" in text(BAD) and "None" not in text(BAD, OPEN)


def test_the_summary_counts_each_ending():
    assert summary([GOOD, GOOD, OPEN]) == "2 confirmed, 0 failed, 1 unconfirmed"


def test_failures_come_before_what_is_unconfirmed():
    assert reasons([OPEN, GOOD, BAD]) == [
        "failed x cross: KeyError: 3",
        "unconfirmed y decode: nothing confirms it",
    ]
