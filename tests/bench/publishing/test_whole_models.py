"""Whole models in everything that is published: tables, pictures, curves and rows of their own."""

from bench.publishing.charts import charts
from bench.publishing.leaderboard import build_leaderboard
from bench.publishing.sinks.view import curves
from tests import records as made


def board(records):
    return build_leaderboard(records)


def test_a_users_own_factory_makes_names_that_files_and_curves_can_have():
    own = "my/own.py:build"
    records = [r for size in (32, 64) for r in made.model_records(model=own, image_size=size)]
    assert all("/" not in chart.name and ":" not in chart.name for chart in charts(board(records)))
    several = board([*records, *made.model_records(image_size=32)])
    names = {name for _, scalars in curves(several, ["flops"], "image_size") for name in scalars}
    assert "model/flops/float32 forward model=my-own.py-build/nala" in names
