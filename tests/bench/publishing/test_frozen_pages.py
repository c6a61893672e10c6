"""Every page from a frozen store, byte for byte: what a move of files must leave as it is."""

import json

import pytest

from bench.core.store import read_store
from tests.bench.publishing.freeze import (
    COMMAND,
    FROZEN,
    MAX_BYTES,
    PAGES,
    STORE,
    differences,
    stored,
    unpacked_store,
)
from tests.bench.publishing.outputs import outputs


def test_every_page_is_what_it_was(tmp_path):
    told = differences(stored(PAGES), outputs(unpacked_store(tmp_path)))
    if told:
        pytest.fail(
            f"{told[0]}\n\n{len(told)} of the frozen pages differ, the first as above. If that is "
            f"meant, `{COMMAND}` writes them again, and the commit which does so says which bytes "
            "changed and why.",
            pytrace=False,
        )


def test_keys_and_digests_of_stored_records_are_what_they_were(tmp_path):
    records = {record.cell.key for record in read_store(unpacked_store(tmp_path)).records}
    lines = [
        json.loads(line)
        for name, content in stored(STORE).items()
        if name.startswith("records/")
        for line in content.splitlines()
    ]
    assert {line["key"] for line in lines} == records
    assert {line["schema_version"] for line in lines} == {1, 2}
    written = stored(PAGES)["lines.jsonl"].splitlines()
    again = {json.loads(line)["digest"] for line in written}
    assert {line["digest"] for line in lines if line["schema_version"] == 2} <= again


def test_what_is_frozen_is_small():
    assert sum(path.stat().st_size for path in FROZEN.rglob("*.gz")) < MAX_BYTES
