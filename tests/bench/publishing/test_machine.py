import subprocess
from dataclasses import replace

from bench.publishing import naming
from bench.publishing.machine import commit_of, describe_machine, provenance
from bench.publishing.naming import commit_label, commits_in_words
from tests import records as made


def test_a_machine_is_one_line_of_facts():
    record = made.block_records(["nala"])[0]
    assert describe_machine(record) == (
        "Imaginary 9000, 2 cores, 24 GiB, torch 2.13.0, retain allocator"
    )


def test_an_accelerator_comes_first_by_its_own_name():
    cell = made.kernel_cell(device="cuda:1")
    devices = {"devices": {"cuda:0": "Card 0", "cuda:1": "Card 1"}}
    record = made.ok_record(cell, made.speed([1.0]), environment=made.ENVIRONMENT | devices)
    assert describe_machine(record).startswith("Card 1, Imaginary 9000, ")


def test_commits_that_are_not_evidence_are_marked_and_the_marks_explained(tmp_path, monkeypatch):
    record = made.block_records(["nala"])[0]
    dirty = replace(record, environment=record.environment | {"is_dirty": True})
    assert (commit_of(record), commit_of(dirty)) == ("0000000", "0000000*")
    monkeypatch.setattr(naming, "CHECKOUT", tmp_path)  # no repository to ask
    said = "commits 0000000, 0000000* (* with uncommitted changes)"
    assert said in provenance([record, dirty])
    git = ("git", "-C", str(tmp_path), "-c", "user.name=n", "-c", "user.email=e")
    subprocess.run([*git, "init", "-q"], check=True)
    subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", "one"], check=True)
    here = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True)
    kept = commit_label(here.stdout.strip(), False)
    found = commits_in_words([kept, "2b1cefe"])
    assert found.endswith(" († not in this repository)")
    assert "2b1cefe†" in found and kept in found and f"{kept}†" not in found
