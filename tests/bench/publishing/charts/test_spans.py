from dataclasses import replace

from tests.bench.core.test_spans import records as ladder
from tests.bench.publishing.charts.boards import drawn, lengths, points


def test_spans_stand_against_speed_and_state_with_ends_of_the_ladder_beyond_it():
    held = {"softmax": (1, 1, 1, 1), "linear": (1, 0.95, 0.5, 0.2), "nala": (0.5, 0.4, 0.3, 0.2)}
    runs = [run for name, shares in held.items() for run in ladder(name, *3 * [shares])]
    (chart,) = (c for c in drawn(lengths(tuple(held)) + runs) if c.name.startswith("span"))
    at = {point["name"]: point["y"] for point in points(chart)}
    assert at["nala"] < 2 < 4 < at["linear"] < 8 < 16 < at["softmax"]
    assert chart.title == "Span on recall against speed-up over softmax at 4,096 tokens"
    assert len(points(chart, "seeds")) == 9
    assert not [c for c in drawn(lengths() + ladder("nala", (1, 1, 0.5, 0))) if "span" in c.name]


def test_rows_that_were_trained_at_two_widths_are_joined_by_a_line():
    runs = []
    for width, shares in ((32, (1, 0.95, 0.5, 0.2)), (64, (1, 1, 0.95, 0.4))):
        for run in ladder("linear", shares, shares):
            settings = {
                **run.cell.task.settings,
                "embed_dim": width,
                "num_layers": 2,
                "num_heads": 4,
            }
            work = replace(run.cell.task, settings=settings | {"num_steps": 100})
            result = replace(run.result, state_bytes=8 * (width // 4) ** 2 * 4)
            runs.append(replace(run, cell=replace(run.cell, workload=work), result=result))
    (chart,) = (c for c in drawn(runs) if c.name.startswith("span-widths"))
    assert [point["x"] for point in points(chart)] == [2, 8]
    assert [point["y"] for point in points(chart, "guides")] == [8, 16]
