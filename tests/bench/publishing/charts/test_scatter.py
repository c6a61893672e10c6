from tests import records as made
from tests.bench.publishing.charts.boards import drawn, lengths


def test_accuracy_of_one_machine_is_not_set_against_latency_of_another():
    elsewhere = made.ENVIRONMENT | {"processor": "B", "devices": {"cpu": "B"}}
    moved = [made.ok_record(r.cell, r.result, environment=elsewhere) for r in made.task_records()]
    assert [c for c in drawn(lengths() + moved) if c.name.startswith("accuracy")] == []
