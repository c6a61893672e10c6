import os
from dataclasses import replace
from pathlib import Path

import pytest

from attentions import catalogue
from bench.core import rows
from bench.core.cli.errors import ConfigError
from bench.core.store import Store
from bench.publishing.page import cache
from bench.publishing.page.cache import cache_file, cached_page
from tests import records as made
from tests.bench.publishing.made import PLUGIN_SOURCE
from tests.bench.publishing.page.made_pages import METRICS, config, diagnosed
from tests.bench.publishing.timed import PLUGIN, PLUGIN_MODULE


def store(out, entries, name):
    made.stored(out, *made.block_records(entries, num_rounds=7), name=name)


def test_a_page_is_built_again_only_if_its_records_changed(tmp_path, monkeypatch):
    store(tmp_path, ("softmax", "linear"), "one")
    first = cached_page(config(tmp_path)).read_text()
    with monkeypatch.context() as patch:
        patch.setattr(cache, "read_records", None)  # nothing is read
        assert cached_page(config(tmp_path)).read_text() == first
    store(tmp_path, ("nala",), "two")
    assert '"nala"' in cached_page(config(tmp_path)).read_text()
    assert '"entropy":{}' in cached_page(config(tmp_path)).read_text()
    assert '"entropy":{"' in cached_page(config(diagnosed(tmp_path))).read_text()


def test_a_page_is_built_again_if_a_plugin_says_something_else(tmp_path, monkeypatch):
    out, site = tmp_path / "out", tmp_path / "site"
    info = site / "frozen_plugin-1.5.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: frozen-plugin\nVersion: 1.5\n")
    points = f"[attnbench.attentions]\n{PLUGIN_MODULE} = {PLUGIN_MODULE}\n"
    (info / "entry_points.txt").write_text(points)
    source = site / f"{PLUGIN_MODULE}.py"
    source.write_text(PLUGIN_SOURCE)
    [record] = made.block_records(["softmax"], num_rounds=7)
    Store(out, "one").append(replace(record, cell=made.kernel_cell(PLUGIN)))
    monkeypatch.syspath_prepend(str(site))
    assert "That Is Only Made Up" in cached_page(config(out)).read_text()
    source.write_text(PLUGIN_SOURCE.replace("That Is Only Made Up", "That Was Renamed"))
    assert "That Was Renamed" in cached_page(config(out)).read_text()


def test_whatever_a_page_is_made_from_is_in_its_stamp(tmp_path, monkeypatch):
    here = config(tmp_path)
    stamps = {
        cache._stamp(one) for one in (here, here.but(metrics=METRICS[1:]), here.but(controls=()))
    }
    names = ("records/a.jsonl", "badges/a.jsonl", "calibration/a.json", "verify.json")
    for at, name in enumerate((*names, "examples/a.json", "diagnostics/diagnostics.jsonl")):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        for again in (0, 1):  # as many bytes as before
            path.write_text("x")
            os.utime(path, (at, again))
            stamps.add(cache._stamp(here))
    assert len(stamps) == 3 + 2 * 6
    sources = {path.parent for path in cache._sources()}
    assert {rows._FOLDER, rows._TASKS, Path(catalogue.__file__).parent} <= sources
    proofs = tmp_path / "proofs.jsonl"
    proofs.write_text("of another release")
    monkeypatch.setattr(cache, "STORED", proofs)
    assert cache._stamp(here) not in stamps


def test_a_cache_that_is_gone_damaged_torn_or_forged_costs_time_only(tmp_path):
    store(tmp_path, ("softmax",), "one")
    first = cached_page(config(tmp_path)).read_text()
    path = cache_file(tmp_path)
    line, _, content = path.read_text().partition("\n")
    forged = content.replace('"nala"', '"</script>"').replace("softmax", "<script>")
    damaged = [
        *(None, b"", b"\xff", b"another\n{}"),
        f"{line}\n{content[:-100]}".encode(),  # as a power failure leaves it
        f"{line.split()[0]} {cache._digest(forged)}\n{forged}".encode(),
    ]
    for damage in damaged:
        path.unlink() if damage is None else path.write_bytes(damage)
        assert cached_page(config(tmp_path)).read_text() == first


def test_a_cache_behind_a_link_is_neither_read_nor_written(tmp_path):
    store(tmp_path / "out", ("softmax",), "one")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out" / "cache").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ConfigError, match="cache is a link"):
        cached_page(config(tmp_path / "out"))
    assert list((tmp_path / "elsewhere").iterdir()) == []
