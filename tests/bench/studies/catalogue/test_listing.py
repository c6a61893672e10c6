import subprocess
import sys
from dataclasses import replace

import pytest
from rich.console import Console

from attentions.catalogue import catalogue
from attentions.testing.authors.proof import Proof, ProofStatus
from bench.core.proofs import Badge, BadgeStatus, Proofs, read_goldens
from bench.core.rows import ON_REQUEST, row_labels
from bench.core.sources import hash_syntax
from bench.studies.catalogue import listing
from bench.studies.catalogue.listing import (
    everything,
    in_words,
    legend,
    main,
    read_query,
    table,
)
from bench.studies.verify.rows import write_rows

ENTRIES = catalogue()


def proof(mechanism, status):
    return Proof(golden="a/b", mechanism=mechanism, case="b", status=status, reason="why")


@pytest.fixture
def results(tmp_path):
    rows = [
        proof("softmax", ProofStatus.PASSED),
        proof("softmax", ProofStatus.PASSED),
        proof("linear", ProofStatus.PASSED),
        proof("linear", ProofStatus.FAILED),
        proof("performer", ProofStatus.NOT_COVERED),
        proof(None, ProofStatus.FAILED),
    ]
    write_rows(tmp_path / "verify.json", rows)
    return tmp_path


def cells(entries, proofs):
    console = Console(width=420)
    with console.capture() as captured:
        console.print(table(entries, proofs))
    lines = [line for line in captured.get().splitlines() if line.startswith("│")]
    return [" | ".join(cell.strip() for cell in line.strip("│").split("│")) for line in lines]


def test_goldens_are_counted_as_verify_wrote_them(results):
    assert read_goldens(results / "verify.json") == {"softmax": (2, 2, ""), "linear": (1, 2, "")}


def test_every_mechanism_has_a_row_with_its_source():
    badges = {name: Badge(claim=name, status=BadgeStatus.PASSED) for name in ("causal", "packed")}
    stale = Proofs(badges=badges, goldens=(12, 12), source="of another day")
    rows = cells(ENTRIES, {"softmax": stale})
    assert len(rows) == len(ENTRIES) > 0
    for entry, row in zip(ENTRIES, rows, strict=True):
        name, title, family, kind, can, source, serving, goldens, claims = row.split(" | ")
        assert family == entry.family
        assert (name, title, source) == (entry.name, entry.title, entry.source)
        assert kind == ("layer" if entry.is_layer else "core")
        assert can == in_words(entry.capabilities)
        assert goldens == ("12/12*" if name == "softmax" else "-")
        assert serving == ("1/1*" if name == "softmax" else "-")
        assert claims == ("2/2*" if name == "softmax" else "-")


def test_stars_and_origins_are_those_of_goldens_and_of_claims_apart():
    changed = "of another day"
    now = hash_syntax("attentions.mechanisms.softmax")
    passed = {"causal": Badge(claim="causal", status=BadgeStatus.PASSED)}
    passed["cross"] = Badge(claim="cross", status=BadgeStatus.FAILED, reason="why")
    (entry,) = (e for e in ENTRIES if e.name == "softmax")
    for source, goldens_source, shown in (
        (now, changed, ["3/5*", "1/2"]),
        (changed, now, ["3/5", "1/2*"]),
        (now, now, ["3/5", "1/2"]),
    ):
        proven = Proofs(
            badges=passed, goldens=(3, 5), source=source, goldens_source=goldens_source, stored="S"
        )
        (row,) = cells((entry,), {"softmax": proven})
        assert row.split(" | ")[-2:] == shown
        said = legend((entry,), {"softmax": proven, "linear": Proofs(stored="of no row")})
        assert said.startswith("Stored with the code: S.")
        assert ("* of an earlier state of its source" in said) == ("*" in "".join(shown))
    (row,) = cells((entry,), {"softmax": Proofs(badges=passed)})
    assert row.endswith(" | - | 1/2")


def test_installed_plugins_are_listed_once_and_their_errors_told(monkeypatch, capsys):
    one, named = (replace(ENTRIES[0], name=name) for name in ("one", "named"))
    monkeypatch.setattr(listing, "plugin_catalogue", lambda: ((one,), ["mine cannot be read."]))
    monkeypatch.setattr(listing, "module_catalogue", lambda module: (one, named))
    assert [entry.name for entry in everything(("mine",))][-2:] == ["one", "named"]
    assert len(everything(("mine",))) == len(ENTRIES) + 2
    captured = capsys.readouterr()
    assert "mine cannot be read." in captured.err and captured.out == ""


def named(*words):
    query = read_query(list(words))
    return {entry.name for entry in ENTRIES if query.admits(entry)}


def test_a_family_is_shown_alone_or_with_others():
    assert {"linear", "nala"} <= named("family=kernel") and "gla" not in named("family=kernel")
    both = named("family=kernel") | named("family=recurrent")
    assert named("family=kernel,recurrent") == named("family=[kernel, recurrent]") == both


def test_the_authors_operators_are_shown_only_when_asked_for():
    assert "nala" in named() and "nala_published" not in named()
    assert "nala_published" in named("family=published") and "nala" not in named("family=published")


def test_other_packages_versions_are_shown_only_with_everything():
    assert named("all=true") == {entry.name for entry in ENTRIES}
    assert named("all=false") == named() and not named() & ON_REQUEST
    assert {"performer_peer", "rfa_gated"} <= named("all=true", "family=[kernel, published]")
    assert {*row_labels()} >= ON_REQUEST


@pytest.mark.parametrize("claim", ["causal", "needs_grid"])
def test_a_claim_splits_the_mechanisms_in_two(claim):
    having, lacking = named(f"{claim}=true"), named(f"{claim}=False")
    assert having and lacking and not having & lacking
    assert having | lacking == named()
    assert all(getattr(e.capabilities, claim) for e in ENTRIES if e.name in having)


def test_filters_narrow_each_other():
    both = named("family=kernel", "causal=true", "recurrent=false")
    assert both == named("family=kernel") & named("causal=true") & named("recurrent=false")


@pytest.mark.parametrize("word", ["family=kernl", "causal=maybe", "needs_grid=1"])
def test_a_value_that_a_filter_cannot_have_is_bad_input(word, exits):
    said = exits(2, main([word]))
    assert f"ConfigError: {word}" in said
    assert ("Did you mean kernel?" in said) == word.startswith("family")


def test_the_command_prints_the_table(results, exits):
    row = next(
        line
        for line in exits(0, main(["family=exact", f"out={results}"])).splitlines()
        if "│ softmax " in line
    )
    assert "2/2" in row


def test_alone_it_prints_a_line_of_names_per_family(exits):
    words = exits(0, main([]))
    assert "recurrent: " in words and " gla," in words and "│" not in words


@pytest.mark.parametrize(
    ("module", "said"),
    [
        ("no_such_module", "ImportError: no module named"),
        ("no.such.module", "no module named"),
        ("", "has no value"),
        ("[]", "no module named"),
        ("json", "no class stands under @register_attention"),
        ("sys", "has no source"),
    ],
)
def test_a_plugin_that_cannot_be_read_is_bad_input(module, said, capsys):
    assert main([f"plugins={module}"]) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("ConfigError: plugins") and captured.out == ""
    assert said in captured.err


def test_listing_loads_neither_torch_nor_hydra_nor_wandb(results):
    code = (
        "import sys; from bench.studies.catalogue.listing import main; "
        f"assert main(['out={results}']) == 0; "
        "sys.exit(', '.join({'torch', 'hydra', 'wandb', 'omegaconf'} & sys.modules.keys()) or None)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
