"""What a task's rows have for every seed: its score, and how it was learned."""

from __future__ import annotations

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
