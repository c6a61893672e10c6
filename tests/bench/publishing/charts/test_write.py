import importlib.util
import json
import re
from dataclasses import replace

import pytest

from bench.publishing.charts import write as module
from bench.publishing.charts.write import write_charts
from bench.publishing.document import Document
from tests import records as made
from tests.bench.publishing.charts.boards import drawn, lengths, points

needs_renderer = pytest.mark.skipif(
    importlib.util.find_spec("vl_convert") is None, reason="needs the extra `charts`"
)


@pytest.fixture(autouse=True)
def in_a_process_of_its_own(monkeypatch, drawn_elsewhere):
    monkeypatch.setattr(module, "_drawn", drawn_elsewhere)


@needs_renderer
def test_each_specification_is_rendered_to_a_picture_beside_it(tmp_path):
    made_charts = drawn(lengths() + made.task_records())
    files, pictures = write_charts(made_charts, tmp_path)
    assert len(pictures) == len(made_charts)
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(p.name for p in files)
    for chart in made_charts:
        assert json.loads((tmp_path / f"{chart.name}.vl.json").read_text()) == chart.spec
        picture = (tmp_path / f"{chart.name}.svg").read_text()
        assert picture.startswith("<svg")
        texts = re.findall(r">([^<>]+)</text>", picture)
        words = {word for text in texts for word in text.split(", ")}
        assert {p["name"] for p in points(chart)} <= words


def test_without_a_renderer_specifications_are_written_and_the_extra_is_named(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    files, pictures = write_charts(drawn(lengths()), tmp_path)
    assert [p.suffix for p in files] == [".json"] * 3 and not pictures
    assert "attnbench[charts]" in capsys.readouterr().err


@needs_renderer
def test_a_library_that_dies_costs_its_pictures_and_not_the_page(tmp_path, monkeypatch, capfd):
    chart = drawn(lengths())[0]
    dies = module._DRAW.replace("for line in sys.stdin:", "for line in (sys.stdin.readline(),):")
    monkeypatch.setattr(module, "_DRAW", f"{dies}\nimport os; os.abort()")
    charts = [replace(chart, name=name) for name in ("first", "second", "third")]
    files = module.write_illustrated(Document("A page", charts), tmp_path / "page.md")
    assert [file.name for file in files] == ["page.md", "first.svg"]
    page = files[0].read_text()
    assert "(page/first.svg)" in page and "second" not in page
    assert "2 pictures missing in" in (said := capfd.readouterr().err)
    assert "page, second, third: vl_convert ended with exit code -6" in said
