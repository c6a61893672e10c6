"""Damaged stores: a message or a line left out, never a traceback and never a wrong number."""

import pytest

from tests.damaged_stores import Mutant, mutants, originals, survive


def test_50_damaged_stores_are_read_validated_and_repaired(tmp_path):
    records = originals()
    endings = [
        survive(mutant, records, tmp_path, always_publish=False) for mutant in mutants(records, 50)
    ]
    assert endings.count("left out") > 20


def test_a_damaged_store_is_published(tmp_path):
    records = originals()
    lines = [record.to_json().encode() + b"\n" for record in records]
    lines[1] = lines[1].replace(b'"latency_s":[', b'"latency_s":[-')
    assert survive(Mutant("sign", b"".join(lines)), records, tmp_path) == "left out"


@pytest.mark.slow
def test_500_damaged_stores_are_published(tmp_path):
    records = originals()
    for mutant in mutants(records, 500, seed=1):
        survive(mutant, records, tmp_path)
