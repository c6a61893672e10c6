from dataclasses import replace
from unittest.mock import Mock

import pytest

from bench.studies.reproduce.command import main
from bench.studies.reproduce.findings import read_finding, write_finding
from bench.studies.session import Stopped
from tests.bench.studies.reproduce.conftest import GivenLab

CLAIM = "nalaformer-order-tiles"
OWN = """\
from functools import partial

from bench.studies.reproduce.claims.registry import register_claim
from bench.studies.reproduce.described import *
from bench.studies.reproduce.findings import Finding
from bench.studies.reproduce.verdicts import PaperVerdict

tiny = Protocol(
    name="tiny",
    task="recall",
    settings=dict(
        num_steps=8, batch_size=4, vocab_size=16, num_pairs=2, seq_len=32, num_test_examples=64,
        embed_dim=8, num_heads=1,
    ),
    steps_per_epoch=2,
    cost_s=5.0,
    code=Code(repository="none", commit="unknown", date="2020-01-01", reason="it has none"),
)
cell = partial(
    PaperCell, where="T", what="w", published=0.9, tolerance=0.02, obtained="table",
    attention="softmax",
)


@register_claim("tiny-claim")
def holds(lab, *, number):
    return Finding(verdict=PaperVerdict.HOLDS, words=f"it is {number}")


long = tiny.like("long", cost_s=3 * HOUR_S)
claim = partial(Claim, where="T", sentence="so", refuted_by="not", by="tiny-claim", cost_s=1.0)
PAPER = Paper(
    title="Nobody, 2020, Tiny",
    entries=[
        cell(id="tiny-cell", protocol=tiny, deviations=("it is tiny",)),
        cell(id="tiny-long", protocol=long),
        cell(id="tiny-foreign", not_comparable="it needs a download"),
        Contradiction(id="tiny-contradiction", what="w", values={"A": 1}, of=("tiny-cell",)),
        claim(id="tiny-claim", settings={"number": 7}),
        claim(id="tiny-wrong", settings={"numbers": 7}),
    ],
)
"""


@pytest.fixture
def words(tmp_path):
    file = tmp_path / "own.py"
    file.write_text(OWN)
    return [f"papers={file}", f"keep={tmp_path / 'keep'}", f"out={tmp_path / 'out'}"]


def test_the_list_shows_cost_and_verdict(words, exits):
    shown = exits(0, main([*words, "find=nobody"]))
    assert "6 described" in shown and "3 h" in shown and "it needs a download" in shown
    shown = exits(0, main([*words, "kind=contradiction", "find=tiny"]))
    assert "1 described: 1 contradiction." in shown


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["cell=tiny-cel"], "cell=tiny-cel is not described by a paper. Did you mean tiny-cell"),
        (["cell=tiny-contradiction"], "Try one of its cells, e.g. cell=tiny-cell"),
        (["cell=tiny-long"], "costs about 3 h 0 min on two cores. Say budget=20m"),
        (["find=zzz"], "Nothing described matches"),
        (["until=decided", "budget=1h"], "until=decided takes a claim to decide: cell=ID"),
        ([f"cell={CLAIM}", "until=decided"], "Say for how long at most, such as budget=2h"),
        (
            ["cell=tiny-cell", "until=decided", "budget=1h"],
            "cell=tiny-cell is not a claim that compares trained arms. These are: based-recall-gr",
        ),
        (
            ["cell=[performer-unbiased,h3-associative-recall-random]", "seed=[3,4]"],
            "seed=[3, 4] is for cells that are trained; cell=performer-unbiased takes its",
        ),
        (["papers=/nowhere"], "papers=/nowhere is neither a Python file nor a folder of such"),
        (["cell=tiny-wrong"], "tiny-wrong: its settings are wrong for its function: missing a req"),
    ],
)
def test_what_cannot_be_run_is_refused_with_a_way_out(words, more, message, exits):
    assert message in exits(2, main([*words, *more]))


def test_a_paper_of_ones_own_may_test_its_claims(words, exits):
    assert "holds: it is 7" in exits(0, main([*words, "cell=tiny-claim"]))


def test_what_is_not_comparable_says_why(words, exits):
    assert "not comparable: it needs a download" in exits(0, main([*words, "cell=tiny-foreign"]))


def test_a_cell_is_trained_and_one_seed_is_no_verdict(words, exits):
    shown = exits(0, main([*words, "cell=tiny-cell"]))
    assert "one seed: " in shown and "2 more seeds are missing for a verdict: seed=[0,1,2]" in shown
    assert "published 90 (table), the same within 2" in shown and "- it is tiny" in shown
    assert "follows none at unknown (2020-01-01): it has none" in shown
    assert "one seed: " in exits(0, main([*words, "find=tiny-cell"]))


@pytest.mark.slow
def test_three_seeds_are_one(words, capsys):
    assert main([*words, "cell=tiny-cell", "seed=[0,1,2]"]) == 1
    assert "differs by" in capsys.readouterr().out


@pytest.mark.slow
def test_what_is_stored_is_not_trained_again_and_a_budget_says_how_far_it_came(words, exits):
    assert "[1/1]" in exits(0, main([*words, "cell=tiny-cell"]))
    shown = exits(0, main([*words, "cell=tiny-cell"]))
    assert "[1/1]" not in shown and "1 of its runs are stored: commit " in shown
    assert "[1/1]" in exits(0, main([*words, "cell=tiny-cell", "force=true"]))
    said = exits(0, main([*words, "cell=zoology-fig2-attention-L64-d64", "budget=1s"]))
    assert "unfinished: after a budget of 1 s no validation score" in said


def test_a_measured_cell_is_kept(words, tmp_path, capsys, exits):
    assert main([*words, "cell=h3-associative-recall-random"]) == 1
    shown = capsys.readouterr().out
    assert "disagrees by -13.9 points: 11.1" in shown and "stored: " not in shown
    assert main([*words, "cell=h3-associative-recall-random"]) == 1
    assert "stored: measured 20" in capsys.readouterr().out
    found = read_finding(tmp_path / "out", "h3-associative-recall-random")
    assert found is not None
    old = replace(found, training_version=found.training_version + 1)
    write_finding(tmp_path / "out", "h3-associative-recall-random", old)
    assert main([*words, "cell=h3-associative-recall-random"]) == 1
    assert "stored: measured 20" not in capsys.readouterr().out
    both = "cell=[h3-associative-recall-random,h3-associative-recall-random-v10]"
    assert main([*words, both]) == 1  # though the second agrees
    capsys.readouterr()
    said = exits(0, main([*words, "find=h3-induction-random", "kind=cell"]))
    assert "not run" in said


def test_ctrl_c_ends_the_command_and_not_one_cell_of_it(words, monkeypatch, capsys):
    monkeypatch.setattr("bench.studies.reproduce.running.run_function", Mock(side_effect=Stopped))
    cells = "cell=[h3-associative-recall-random,h3-induction-random]"
    assert main([*words, cells]) == 130
    shown = capsys.readouterr().out
    assert "The same command goes on from here" in shown and "h3-induction-random" not in shown


UNTIL = [f"cell={CLAIM}", "until=decided", "budget=1h"]
LEADS = {"flatten": 0.0, "polaformer": 0.1, "nala": 0.2}


@pytest.fixture
def given_labs(monkeypatch):
    """Laboratories of the command, whose rows differ by `LEADS` with every seed."""
    labs: list[GivenLab] = []

    def lab(*args, **more):
        labs.append(GivenLab(*args, **more))
        return labs[-1].given(lambda name, _: [0.5 + LEADS[name] + 0.001 * s for s in range(12)])

    monkeypatch.setattr("bench.studies.reproduce.running.Lab", lab)
    return labs


def test_a_claim_is_looked_at_until_it_is_decided_and_that_is_kept(
    words, given_labs, monkeypatch, exits, capsys
):
    assert "holds: on tile_recall with 3 seeds" in exits(0, main([*words, f"cell={CLAIM}"]))
    shown = exits(0, main([*words, *UNTIL]))
    plan = "looks at 3, 4, 6, 8, 12 seeds, at most 12; their levels are 0.0125, "
    told = "holds: decided at look 1 of 5 (at 3, 4, 6, 8, 12 seeds), 3 seeds, level 0.0125 of 0.05"
    assert shown.index(plan) < shown.index(told)
    assert "stored: " not in shown and "criterion changed" not in shown
    for more in (UNTIL, [f"cell={CLAIM}"]):
        shown = exits(0, main([*words, *more]))
        assert "stored: measured 20" in shown and told in shown
    assert len(given_labs) == 2
    monkeypatch.setitem(LEADS, "nala", 0.0)
    assert main([*words, UNTIL[0], "force=true"]) == 1
    assert "does not hold: on tile_recall" in capsys.readouterr().out


def test_a_budget_that_is_spent_first_keeps_no_finding(words, given_labs, monkeypatch, exits):
    monkeypatch.setitem(LEADS, "nala", 0.1)
    shown = exits(0, main([*words, *UNTIL[:2], "budget=0.000001s"]))
    assert "unfinished: after a budget of " in shown
    assert "not decided at look 1 of 5" in shown and "3 seeds, level 0.0125" in shown
    shown = exits(0, main([*words, *UNTIL]))
    assert "stored: " not in shown and "not resolvable: not decided with 12 seeds" in shown
