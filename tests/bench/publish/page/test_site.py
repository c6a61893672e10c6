from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from bench.publish.page.site import build_site, views
from tests import records as made
from tests.bench.publish.page.made_pages import RUDE, config


def test_a_site_has_a_page_for_everything_and_for_each_sweep(tmp_path: Path) -> None:
    records = [
        made.of_sweep(record, sweep)
        for sweep in ("one", "../../two", RUDE)
        for record in made.block_records(("softmax", "linear"), num_rounds=7)
    ]
    site = tmp_path / "site"
    build_site(records, config(tmp_path), site)
    index = (site / "index.html").read_text()
    assert RUDE not in index and "&lt;img" in index
    links = re.findall(r'href="([^"]+)"', index)
    assert len(links) == 8
    for link in links:
        target = (site / link).resolve()
        assert target.is_relative_to(site.resolve()) and target.is_file()
    assert all(file.is_relative_to(site) for file in tmp_path.rglob("*") if file.is_file())


def test_machines_are_views_of_their_own_where_there_are_several() -> None:
    one = made.block_records(("softmax",), num_rounds=7)
    assert [view.folder for view in views(one)] == ["all"]
    facts = made.ENVIRONMENT | {"processor": "Another"}
    other = replace(one[0], environment=facts)
    titles = [view.title for view in views([*one, other])]
    assert len(titles) == 3 and titles[1].startswith("Another") and "Imaginary" in titles[2]
