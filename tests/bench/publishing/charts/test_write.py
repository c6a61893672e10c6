import importlib.util
import json
import re

import pytest

from bench.publishing.charts.write import write_charts
from tests import records as made
from tests.bench.publishing.charts.boards import drawn, lengths, points

needs_renderer = pytest.mark.skipif(
    importlib.util.find_spec("vl_convert") is None, reason="needs the extra `charts`"
)


@needs_renderer
def test_each_specification_is_rendered_to_a_picture_beside_it(tmp_path):
    made_charts = drawn(lengths() + made.task_records())
    files, _, note = write_charts(made_charts, tmp_path)
    assert note is None
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(p.name for p in files)
    for chart in made_charts:
        assert json.loads((tmp_path / f"{chart.name}.vl.json").read_text()) == chart.spec
        picture = (tmp_path / f"{chart.name}.svg").read_text()
        assert picture.startswith("<svg")
        texts = re.findall(r">([^<>]+)</text>", picture)
        words = {word for text in texts for word in text.split(", ")}
        assert {p["name"] for p in points(chart)} <= words


def test_without_a_renderer_specifications_are_written_and_the_extra_is_named(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    files, pictures, note = write_charts(drawn(lengths()), tmp_path)
    assert [p.suffix for p in files] == [".json"] * 3 and not pictures
    assert note is not None
    assert "attnbench[charts]" in note


def test_no_charts_are_no_files_and_no_note(tmp_path):
    assert write_charts((), tmp_path / "charts") == ([], [], None)
    assert not (tmp_path / "charts").exists()
