"""Damaged stores: sound records stay as they were, damaged ones are named and put aside."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from random import Random

from tests.damaged_stores import mutants, originals, survive
from tests.torture.trial import Trial


def stores(count: int, draw: Random, folder: Path) -> Iterator[Trial]:
    """`count` damaged stores: read, published, validated and repaired."""
    records = originals()
    for mutant in mutants(records, count, draw.randrange(10**6)):
        try:
            yield Trial(what=survive(mutant, records, folder))
        except (Exception, SystemExit) as error:  # any exception is a fault
            yield Trial(what="not survived", fault=f"{mutant.what}: {error!r}")
