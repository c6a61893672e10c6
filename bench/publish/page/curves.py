"""What a task's rows have for every seed: its score, how it was learned, and token filters."""

from __future__ import annotations

from typing import Any

from bench.publish.filters import kept_shares
from bench.publish.page.rows import Json, Table, rounded
from bench.record import Quality


def curves(rows: Table) -> dict[str, list[Json]]:
    """Of each row of a task, by its number as text: score, steps and validation scores a seed."""
    found: dict[str, list[Json]] = {}
    for number, records in enumerate(rows.records):
        for record in records:
            result = record.result
            if isinstance(result, Quality):
                found.setdefault(str(number), []).append(
                    {
                        "seed": record.cell.task.seed,
                        "score": rounded(result.accuracy),
                        "steps": list(result.validation_steps),
                        "validation": [rounded(score) for score in result.validation],
                    }
                )
    return found


def filtered(rows: Table) -> dict[str, list[list[Any]]]:
    """Of each row with token filters, by its number: filter, share kept, accuracy, cost ratios."""
    found: dict[str, list[list[Any]]] = {}
    for number, records in enumerate(rows.records):
        for one in kept_shares("", records):
            ratio = None if one.flops_ratio is None else rounded(one.flops_ratio)
            costs = [rounded(one.accuracy), rounded(one.latency_ratio), ratio]
            found.setdefault(str(number), []).append([one.filter, one.keep, *costs])
    return found
