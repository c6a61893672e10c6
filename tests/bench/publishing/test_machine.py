import subprocess
from dataclasses import replace

from bench.publishing.machine import (
    commit_of,
    commit_words,
    describe_machine,
    history,
    provenance,
)
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


def test_a_record_that_says_nothing_of_its_machine_is_still_shown():
    record = made.ok_record(made.kernel_cell(), made.speed([1.0]), environment={})
    assert describe_machine(record) == "processor unknown"
    assert commit_of(record) == ""


def test_a_commit_with_changes_has_a_star():
    record = made.block_records(["nala"])[0]
    dirty = replace(record, environment=record.environment | {"is_dirty": True})
    assert (commit_of(record), commit_of(dirty)) == ("0000000", "0000000*")
    assert "commits 0000000, 0000000*" in provenance([record, dirty])


def test_a_commit_outside_of_the_history_is_marked(tmp_path):
    def git(*words):
        own = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b.c", *words]
        return subprocess.run(own, capture_output=True, text=True, check=True).stdout.strip()

    assert history(tmp_path) == frozenset()
    git("init")
    for _ in range(2):
        git("commit", "--allow-empty", "--message", "empty")
    history.cache_clear()
    known, lost = history(tmp_path), "f" * 40
    head = git("rev-parse", "HEAD")
    assert head in known and len(known) == 2
    assert commit_words({"commit": head, "is_dirty": True}, known) == f"{head[:7]}*"
    assert commit_words({"commit": lost}, known) == "fffffff†"
    assert commit_words({"commit": lost}) == "fffffff"
    assert commit_words({}, known) == ""
