from rich.console import Console

from bench.studies.golden.proof import Proof, ProofStatus
from bench.studies.verify.outputs import reasons, summary, table


def shown(proofs):
    console = Console(width=140)
    with console.capture() as captured:
        console.print(table(proofs))
    lines = [line for line in captured.get().splitlines() if line.startswith("│")]
    return [[cell.strip() for cell in line.strip("│").split("│")] for line in lines]


def test_the_table_has_a_row_per_case_and_the_summary_counts_them():
    passed = Proof(
        golden="a/b", mechanism="m", case="b", status=ProofStatus.PASSED,
        error=1.2e-7, bound=3e-6, dtype="float32",
    )  # fmt: skip
    nan = Proof(
        golden="a/c", mechanism="m", case="c", status=ProofStatus.FAILED,
        bound=3e-6, dtype="float64", reason="out in float64 is not finite",
    )  # fmt: skip
    other = Proof(
        golden="d/e", mechanism=None, case="e", status=ProofStatus.NOT_COVERED, reason="why"
    )
    assert shown([passed, nan, other]) == [
        ["a/b", "m", "passed", "1.2e-07 / 3e-06", "float32"],
        ["a/c", "m", "failed", "not finite / 3e-06", "float64"],
        ["d/e", "-", "not covered", "-", ""],
    ]
    assert summary([passed, nan, other]) == "1 passed, 1 failed, 1 not covered"
    assert reasons([passed, nan, other]) == [
        "FAILED a/c: out in float64 is not finite",
        "not covered: 1 of d: why",
    ]


def test_the_authors_operators_are_counted_apart():
    ours, theirs = (
        Proof(golden="a/b", mechanism=name, case="b", status=ProofStatus.PASSED)
        for name in ("nala", "nala_published")
    )
    assert summary([ours, theirs, theirs]) == (
        "1 passed, 0 failed, 0 not covered; published: 2 passed, 0 failed, 0 not covered"
    )
    assert summary([theirs]) == "published: 1 passed, 0 failed, 0 not covered"


def test_a_pass_that_needs_a_word_gets_a_line_of_it():
    passed = Proof(
        golden="a/b", mechanism="m", case="b", status=ProofStatus.PASSED,
        error=1.2e-7, bound=3e-6, dtype="float32", reason="2 rows were left out",
    )  # fmt: skip
    assert reasons([passed]) == ["passed a/b: 2 rows were left out"]
