import base64
import hashlib
import json
from html.parser import HTMLParser
from pathlib import Path

import pytest

import bench.publishing.page
from bench.publishing.page.assemble import vendored
from tests.bench.publishing.page.made_pages import RUDE, rude_records, sweep, written

VENDOR = Path(bench.publishing.page.__file__).parent / "vendor"


class Parts(HTMLParser):
    """Tags with their attributes, and the text of each script."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.is_in_script = False
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self.is_in_script = tag == "script"
        if self.is_in_script:
            self.scripts.append("")

    def handle_endtag(self, tag: str) -> None:
        self.is_in_script = False

    def handle_data(self, data: str) -> None:
        if self.is_in_script:
            self.scripts[-1] += data

    @property
    def policy(self) -> dict[str, str]:
        content = next(a["content"] for _, a in self.tags if a.get("http-equiv")) or ""
        return {part.split()[0]: part for part in content.split("; ")}


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    return written(sweep(), tmp_path_factory.mktemp("page")).read_text()


def test_the_policy_lets_nothing_be_fetched_and_only_our_scripts_run(page):
    parts = Parts(page)
    assert parts.policy["default-src"] == "default-src 'none'"
    assert "unsafe" not in parts.policy["script-src"]
    for script, (_, said) in zip(
        parts.scripts, [tag for tag in parts.tags if tag[0] == "script"], strict=True
    ):
        digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
        is_data = said.get("type") == "application/json"
        assert (f"'sha256-{digest}'" in parts.policy["script-src"]) != is_data
    assert {"src", "href"} & {name for _, said in parts.tags for name in said} == {"href"}
    found = [said["href"] for _, said in parts.tags if "href" in said]
    assert found == ["#table-heading", "table.csv", "records/"]


def test_markup_in_records_stays_text(tmp_path):
    page = written(rude_records(), tmp_path).read_text()
    assert RUDE not in page
    parts = Parts(page)
    assert not [tag for tag, _ in parts.tags if tag == "img"]
    content = json.loads(next(text for text in parts.scripts if text.startswith('{"heading"')))
    assert RUDE in content["rows"]["words"]["name"]["vocabulary"]
    assert f"said {RUDE}" in content["rows"]["words"]["reason"]["vocabulary"]


def test_files_of_others_are_the_ones_that_were_listed():
    listed = vendored()
    for one in listed:
        content = (VENDOR / one["file"]).read_bytes()
        assert hashlib.sha256(content).hexdigest() == one["sha256"], one["file"]
        assert one["licence"] in ("MIT", "BSD-3-Clause")
        assert "Copyright" in one["text"]
    files = {one["file"] for one in listed} | {one["licence_file"] for one in listed}
    assert {path.name for path in VENDOR.iterdir()} == files | {"vendored.json"}
