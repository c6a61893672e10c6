import pytest

from bench.core.cli.entries import TaskEntry, read_attention_entries
from bench.core.cli.errors import ConfigError
from bench.measuring.plan import checked_hyperparameters, checked_settings
from bench.studies.reproduce.claims.registry import claim_names, settings_of
from bench.studies.reproduce.described import Claim, PaperCell, Read, criterion_of
from bench.studies.reproduce.papers import FOLDER, read_papers
from bench.studies.reproduce.runs import row_of, runs_of

PAPERS = read_papers()
CELLS = PAPERS.of_kind(PaperCell)

ENTRY = (
    "{kind: cell, where: Table 1, what: softmax, attention: softmax, protocol: p, "
    "published: 50, percent: true, tolerance: 2, read: table}"
)
CODE = "repository: https://example.org/code, commit: 1a2b3c4d, date: 2020-01-01"
PROTOCOL = f"{{task: recall, settings: {{num_steps: 4}}, cost: 10s, {CODE}}}"


def papers(folder, *lines):
    folder.mkdir(exist_ok=True)
    (folder / "own.yaml").write_text("\n".join(("paper: 'Nobody, 2020'", *lines)))
    return read_papers((folder,))


def test_there_are_sixty_cells_and_each_says_how_its_value_was_obtained():
    assert len(CELLS) >= 60
    assert all(cell.obtained in Read and cell.where and cell.paper for cell in CELLS)
    assert all(0 <= cell.published <= 1 and cell.tolerance > 0 for cell in CELLS)


def test_what_can_be_run_says_what_it_costs():
    for entry in CELLS:
        assert entry.not_comparable or entry.cost_s > 0, entry.id


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
    named = {entry.by for entry in PAPERS.entries.values() if isinstance(entry, Claim)}
    assert named <= set(claim_names())
    for entry in PAPERS.entries.values():
        if isinstance(entry, Claim) or (isinstance(entry, PaperCell) and entry.by):
            settings_of(entry.by, entry.settings)


def test_cells_of_one_protocol_share_its_runs():
    shared = [cell for cell in CELLS if cell.protocol and cell.protocol.name == "mad-memorisation"]
    papers_of = {cell.paper.split(", ")[2] for cell in shared}
    assert papers_of == {"ATLAS", "MAD", "MesaNet"}  # another follows a later state of the code
    assert len({cell.published for cell in shared}) == len(shared) == 3


def test_an_unknown_id_is_answered_with_the_nearest_ones():
    with pytest.raises(ConfigError, match="Did you mean zoology-fig2-attention-L64-d64"):
        PAPERS.find("zoology-fig2-attention-L64")
    with pytest.raises(ConfigError, match="None has a name like it"):
        PAPERS.find("?")


def test_a_protocol_may_be_like_another_and_change_some_settings(tmp_path):
    settings = "{batch_size: 2, num_steps: 8}"
    like = f"  q: {{like: p, settings: {settings}, cost: 5s, deviations: [shorter]}}"
    base = f"  p: {PROTOCOL[:-1]}, code_reason: so, deviations: [tiny]}}"
    other = f"  r: {{like: p, cost: 1s, {CODE.replace('1a2b3c4d', '5e6f7a8b')}}}"
    read = papers(tmp_path, "protocols:", like, base, other).protocols
    found = read["q"]
    assert (found.task, found.cost_s) == ("recall", 5.0)
    assert found.settings == {"num_steps": 8, "batch_size": 2}
    assert found.deviations == ("tiny", "shorter")
    assert found.code == "example.org/code at 1a2b3c4d (2020-01-01): so"
    assert read["r"].code == "example.org/code at 5e6f7a8b (2020-01-01)"
    with pytest.raises(ConfigError, match=r"s\.cost has no value"):
        papers(tmp_path, "protocols:", base, "  s: {like: p}")


def test_a_table_has_a_cell_for_each_printed_value(tmp_path):
    table = "{where: T, read: table, tolerance: 2, percent: true, columns: {a: p, b: p, c: p}, "
    own = "attention: softmax, cost_factor: 3, deviations: [small], protocol_suffix: q"
    rows = f"deviations: [tiny], rows: {{softmax: {{{own}, values: [12.5, null, 0]}}}}}}"
    lines = ("protocols:", f"  pq: {PROTOCOL}", "tables:", f"  t: {table}{rows}")
    cell, zero = papers(tmp_path, *lines).entries.values()
    assert isinstance(cell, PaperCell) and isinstance(zero, PaperCell)
    assert (cell.id, cell.published, cell.tolerance) == ("t-softmax-a", 0.125, 0.02)
    assert (cell.cost_s, cell.deviations) == (30.0, ("tiny", "small"))
    assert (zero.id, zero.published) == ("t-softmax-c", 0.0)


def test_an_entry_may_cost_other_than_its_protocol(tmp_path):
    dear = ENTRY.replace("{", "{cost: 3s, ")
    lines = ("protocols:", f"  p: {PROTOCOL}", "entries:", f"  a: {ENTRY}", f"  b: {dear}")
    found = papers(tmp_path, *lines).of_kind(PaperCell)
    assert [cell.cost_s for cell in found] == [10.0, 3.0]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (("entries:", f"  a: {ENTRY}"), "a.protocol=p is not known"),
        (("entries:", "  a: {kind: cel}"), "a.kind=cel is not known. Did you mean cell"),
        (("entries:", "  a: 7"), "a is 7; it has keys of its own"),
        (("cells: [{id: a, value: abc}]",), "cells is not a key"),
        (("entries:", "  a: {kind: claim, where: T, sentense: x}"), "sentense is not a key"),
        (("entries:", "  a: {kind: contradiction, what: x, of: [b]}"), "a names b"),
        (("protocols:", "  p: {like: q, cost: 1s}", "  q: {like: p, cost: 1s}"), "in a circle"),
        (("protocols:", "  p: {task: recall}"), "p.cost has no value"),
        (("protocols:", "  p: {task: recall, cost: 1s}"), "write commit: unknown and code_reason"),
        (
            ("protocols:", f"  p: {PROTOCOL.replace('1a2b3c4d', 'main')}"),
            "commit=main is no commit",
        ),
        (
            ("protocols:", f"  p: {PROTOCOL.replace('1a2b3c4d', 'face')}"),
            "commit=face is no commit",
        ),
        (("protocols:", f"  p: {PROTOCOL.replace('2020-01-01', 'May')}"), "the date as 2024-05-02"),
        (("protocols:", f"  p: {PROTOCOL[:-1]}, variants: []}}"), "p.variants"),
        (("protocols:", f"  p: {PROTOCOL[:-1]}, grid: {{num_steps: []}}}}"), "p.grid.num_steps"),
    ],
)
def test_a_file_that_cannot_be_read_is_named_with_its_key(tmp_path, lines, message):
    with pytest.raises(ConfigError, match=message.replace(".", r"\.")):
        papers(tmp_path, *lines)


def test_a_protocol_and_an_entry_are_described_once(tmp_path):
    """One's own must not take the place of another file's, whose cells it trains."""
    own = f"protocols:\n  mad-memorisation: {PROTOCOL}\n"
    (tmp_path / "own.yaml").write_text(f"paper: 'Nobody, 2020'\n{own}")
    with pytest.raises(ConfigError, match=r"mad-memorisation, which mad\.yaml describes already"):
        read_papers((FOLDER, tmp_path))
    entry = "entries:\n  mad-transformer-memorisation: {kind: contradiction, what: x}"
    (tmp_path / "own.yaml").write_text(f"paper: 'Nobody, 2020'\n{entry}")
    with pytest.raises(ConfigError, match="transformer-memorisation, which is described already"):
        read_papers((FOLDER, tmp_path))


def test_a_cell_must_say_how_it_is_run_or_why_it_is_not(tmp_path):
    entry = ENTRY.replace("attention: softmax, protocol: p, ", "")
    with pytest.raises(ConfigError, match="neither how it is trained"):
        papers(tmp_path, "entries:", f"  a: {entry}")


def test_every_protocol_names_the_code_that_it_follows():
    for protocol in PAPERS.protocols.values():
        assert protocol.date >= "2020", protocol.name
    assert PAPERS.protocols["mad-memorisation"].date < "2024-12-05"


def test_every_claim_says_what_would_refute_it():
    for entry in PAPERS.of_kind(Claim):
        assert entry.refuted_by or entry.id == "deltanet-recalls-where-a-decay-does-not", entry.id


def test_a_criterion_changes_with_each_thing_that_a_verdict_rests_on(tmp_path):
    entry = "{kind: claim, where: T, sentence: x, refuted_by: y, settings: {a: 1}, cost: 1s}"
    digests = set()
    for old, new in (
        *(("", ""), ("x", "z"), ("refuted_by: y", "refuted_by: w"), ("a: 1", "a: 2")),
        ("where", "by: f, where"),
    ):
        (claim,) = papers(
            tmp_path, "entries:", f"  c: {entry.replace(old, new, 1)}"
        ).entries.values()
        assert isinstance(claim, Claim)
        digests.add(criterion_of(claim))
    assert len(digests) == 5
    dearer = entry.replace("cost: 1s", "cost: 2s")
    (claim,) = papers(tmp_path, "entries:", f"  c: {dearer}").entries.values()
    assert isinstance(claim, Claim) and criterion_of(claim) in digests


@pytest.mark.parametrize(
    "row",
    [
        "attention: ../sweep",
        f"attention: {'x' * 300}",
        "attention: softmax, hyperparameters: {layers: []}",
    ],
)
def test_a_row_that_is_none_is_told_when_it_is_looked_for(tmp_path, row):
    lines = ("protocols:", f"  p: {PROTOCOL}")
    entry = ENTRY.replace("attention: softmax", row)
    (cell,) = papers(tmp_path, *lines, "entries:", f"  a: {entry}").entries.values()
    assert isinstance(cell, PaperCell)
    with pytest.raises(ConfigError, match=r"(there is no such attention|names no layer)"):
        row_of(cell)


def test_a_grid_of_lists_and_a_layer_that_is_a_number_are_taken(tmp_path):
    protocol = f"{PROTOCOL[:-1]}, grid: {{sizes: [[1, 2], [3]]}}}}"
    entry = ENTRY.replace("published", "hyperparameters: {layers: 5}, published")
    found = papers(tmp_path, "protocols:", f"  p: {protocol}", "entries:", f"  a: {entry}")
    assert len(runs_of(found.protocols["p"])) == 2
    (cell,) = found.entries.values()
    assert isinstance(cell, PaperCell) and row_of(cell)["mechanism"] == "5"
