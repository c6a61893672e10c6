import re
from dataclasses import replace

from bench.core.store import read_packed
from bench.publishing.page.site import build_site, views
from tests import records as made
from tests.bench.publishing.page.made_pages import RUDE, config


def test_a_site_has_a_page_for_everything_and_for_each_sweep(tmp_path):
    records = [
        made.of_sweep(record, sweep)
        for sweep in ("one", "../../two", RUDE)
        for record in made.block_records(("softmax", "linear"), num_rounds=7)
    ]
    site = tmp_path / "site"
    build_site(records, config(tmp_path).but(docs="docs", source="https://host/tree"), site)
    assert '"docs":"docs","source":"https://host/tree"' in (site / "index.html").read_text()
    assert '"docs":"../docs"' in next(site.glob("sweep-*/index.html")).read_text()
    assert (site / "table.csv").is_file()
    pages = [*site.rglob("index.html")]
    assert len(pages) == 4 and site / "index.html" in pages
    for page in pages:
        text = page.read_text()
        assert "<h1>Attention leaderboard</h1>" in text  # it opens with the board
        assert RUDE not in text and "&lt;img" in text
        links = re.findall(r'href="([^"#]+)"', text)
        data = {page.with_name(name).resolve() for name in ("table.csv", "records.jsonl.gz")}
        found = {(page.parent / link).resolve() for link in links}
        assert found == {p.resolve() for p in pages} | data
    assert len([*read_packed(site / "records.jsonl.gz")]) == len(records)
    assert all(file.is_relative_to(site) for file in tmp_path.rglob("*") if file.is_file())


def test_machines_are_views_of_their_own_where_there_are_several():
    one = made.block_records(("softmax",), num_rounds=7)
    assert [view.folder for view in views(one)] == [""]
    facts = made.ENVIRONMENT | {"processor": "Another"}
    other = replace(one[0], environment=facts)
    titles = [view.title for view in views([*one, other])]
    assert len(titles) == 3 and titles[1].startswith("Another") and "Imaginary" in titles[2]
