"""The papers that are described here, and those of a file of one's own."""

import inspect
from dataclasses import replace
from pathlib import Path

import pytest

from bench.core.cli.entries import TaskEntry, read_attention_entries
from bench.core.cli.errors import ConfigError
from bench.measuring.plan import checked_hyperparameters, checked_settings
from bench.studies.reproduce.claims.registry import claim_function, claim_names
from bench.studies.reproduce.described import (
    Claim,
    Code,
    PaperCell,
    criterion_of,
    row_of_cells,
)
from bench.studies.reproduce.papers import read_papers
from bench.studies.reproduce.runs import row_of, runs_of
from tests.bench.studies.reproduce.given import PROTOCOL

PAPERS = read_papers()
CELLS = PAPERS.of_kind(PaperCell)


def test_every_protocol_is_one_that_its_task_takes():
    for protocol in PAPERS.protocols.values():
        for run in {run.variant: run for run in runs_of(protocol)}.values():
            settings = dict(run.task)
            name = settings.pop("task")
            checked_settings(TaskEntry(label=run.label, task=name, settings=settings))


def test_every_row_is_one_that_its_mechanism_takes():
    for cell in CELLS:
        if cell.attention:
            (entry,) = read_attention_entries({cell.attention: row_of(cell)})
            checked_hyperparameters(entry)


def test_every_function_that_is_named_is_registered_and_takes_its_settings():
    for entry in PAPERS.entries.values():
        if isinstance(entry, Claim) or (isinstance(entry, PaperCell) and entry.by):
            name = entry.by or entry.id
            assert name in claim_names()
            inspect.signature(claim_function(name)).bind("lab", **entry.settings)


def test_an_unknown_id_is_answered_with_the_nearest_ones():
    with pytest.raises(ConfigError, match="Did you mean zoology-fig2-attention-L64-d64"):
        PAPERS.find("zoology-fig2-attention-L64")
    with pytest.raises(ConfigError, match="None has a name like it"):
        PAPERS.find("?")


def test_a_protocol_like_another_changes_some_settings_and_adds_deviations():
    base = replace(PROTOCOL, deviations=("tiny",))
    code = Code(repository="https://example.org/code", commit="5e6f7a8b9c", date="2020-01-01")
    found = base.like(
        "q", cost_s=5.0, settings={"batch_size": 2}, deviations=("shorter",), code=code
    )
    assert (found.name, found.task, found.cost_s) == ("q", "recall", 5.0)
    assert found.settings == {"num_steps": 7, "batch_size": 2}
    assert found.deviations == ("tiny", "shorter")
    assert str(found.code) == "example.org/code at 5e6f7a8b (2020-01-01)"
    assert str(base.code) == "none at unknown (2020-01-01): none was published"


def test_a_row_of_a_table_has_a_cell_for_each_printed_value():
    shared = {"where": "T", "obtained": "table", "tolerance": 2, "cost_factor": 3.0}
    cell, zero = row_of_cells("t-softmax", "S", {"a": PROTOCOL, "c": None}, [12.5, 0], **shared)
    assert (cell.id, cell.what, cell.published, cell.tolerance) == (
        "t-softmax-a",
        "S, a",
        0.125,
        0.02,
    )
    assert (cell.expected_s, cell.printed_value) == (3.0, "12.5")
    assert (zero.id, zero.published, zero.protocol) == ("t-softmax-c", 0.0, None)
    with pytest.raises(ValueError, match="shorter"):
        row_of_cells("t", "S", {"a": PROTOCOL, "c": None}, [12.5], **shared)


PAGE = Path(__file__).parents[4] / "docs" / "adding-a-paper.md"
OWN = PAGE.read_text().partition("```python\n")[2].partition("```")[0]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("PAPER = Paper(", "PAPER = Papr(", r"own\.py:\d\d cannot be run: NameError: name 'Papr'"),
        ("PAPER = ", "PAPERS = ", r"own\.py has no PAPER = Paper"),
        ("[99.1, 87.0],", "[991, 87.0],", "own.py:.* published is 9.91 and tolerance 0.02"),
        ('commit="1a2b3c4d"', 'commit="unknown"', "or unknown and a reason, are needed"),
        ('attention="softmax",', "", "mine-softmax-short says neither how it is trained"),
        (
            'of=("mine-softmax-short',
            'of=("mine-short',
            "names mine-short, and no cell is called that",
        ),
        ('id="mine-sentence"', 'id="mad-gla-copy"', "mad-gla-copy, which is described already"),
    ],
)
def test_the_file_that_the_page_shows_is_read_and_named_where_it_is_wrong(
    tmp_path, old, new, message
):
    file = tmp_path / "own.py"
    file.write_text(OWN)
    for own in (file, tmp_path):
        assert read_papers(own).find("mine-softmax-short").paper.startswith("Author et al., 2024")
    assert old in OWN
    file.write_text(OWN.replace(old, new, 1))
    with pytest.raises(ConfigError, match=message):
        read_papers(file)


def test_a_criterion_changes_with_each_thing_that_a_verdict_rests_on():
    claim = Claim(id="c", where="T", sentence="x", refuted_by="y", settings={"a": 1}, cost_s=1.0)
    changes = ({"sentence": "z"}, {"refuted_by": "w"}, {"settings": {"a": 2}}, {"by": "f"})
    changed = [replace(claim, **change) for change in changes]
    assert len({criterion_of(one) for one in (claim, *changed)}) == 5
    assert criterion_of(replace(claim, cost_s=2.0, by="c")) == criterion_of(claim)
