from dataclasses import replace

import pytest

from bench import merge, report
from bench.core.store import latest, read_records
from bench.measuring.config import Shard
from bench.measuring.plan import PlannedCell
from bench.measuring.todo import of_shard
from tests import records as made
from tests.bench.core.test_examples import DIGEST, IMAGES, TOKENS, written


def store(out, *records):
    made.stored(out, *records)
    return out


def timed(at, seconds=1.0, **changes):
    cell = made.kernel_cell("nala")
    return made.ok_record(cell, made.speed([seconds]), started_at=f"2031-01-{at}Z", **changes)


OLD, NEW = timed("01T00:00:00", 1.0), timed("02T00:00:00", 2.0)


def files(out):
    return {str(p.relative_to(out)): p.read_bytes() for p in out.rglob("*") if p.is_file()}


def test_shards_of_a_sweep_give_the_table_of_the_whole(tmp_path):
    entries = ["softmax", "nala"]
    whole = [r for n in (64, 256) for r in made.block_records(entries, num_rounds=5, seq_len=n)]
    whole += made.task_records(entries)
    planned = [PlannedCell(cell=record.cell) for record in whole]
    parts = []
    for index in (1, 2, 3):
        mine = {repr(p.cell) for p in of_shard(planned, Shard(index=index, count=3))}
        folder = tmp_path / str(index)
        parts.append(store(folder, *(record for record in whole if repr(record.cell) in mine)))
    store(tmp_path / "whole", *whole)
    assert merge.main([*map(str, reversed(parts)), f"out={tmp_path / 'merged'}"]) == 0
    for name in ("whole", "merged"):
        assert report.main([f"out={tmp_path / name}", "charts=false"]) == 0
    tables = [(tmp_path / name / "table.csv").read_text() for name in ("whole", "merged")]
    assert sorted(tables[0].splitlines()) == sorted(tables[1].splitlines())
    pages = [(tmp_path / name / "leaderboard.md").read_text() for name in ("whole", "merged")]
    assert sorted(pages[0].splitlines()) == sorted(pages[1].splitlines())


def test_merging_twice_is_merging_once(tmp_path, capsys, exits):
    words = [str(store(tmp_path / "a", OLD)), str(store(tmp_path / "b", NEW))]
    out = tmp_path / "out"
    assert merge.main([*words, f"out={out}"]) == 0
    once = files(out)
    assert (
        "1 record added, 0 there already, 1 conflict, 0 lines left out" in capsys.readouterr().out
    )
    assert merge.main([*words, f"out={out}"]) == 0
    assert "0 records added, 1 there already" in exits(0, merge.main([str(out), f"out={out}"]))
    assert files(out) == once


@pytest.mark.parametrize("order", [(OLD, NEW), (NEW, OLD)])
def test_of_one_cell_made_with_the_same_things_the_newer_record_wins(tmp_path, order, capsys):
    folders = [store(tmp_path / str(i), record) for i, record in enumerate(order)]
    merge.main([*map(str, folders), f"out={tmp_path / 'out'}"])
    assert read_records(tmp_path / "out") == (NEW,)
    assert "nala seq_len=256" in capsys.readouterr().out
    store(tmp_path / "into", order[0])
    merge.main([str(folders[1]), f"out={tmp_path / 'into'}"])
    assert latest(read_records(tmp_path / "into")) == [NEW]


def test_of_two_that_began_together_one_wins_whatever_the_order_of_the_stores(tmp_path):
    folders = [store(tmp_path / str(i), timed("02T00:00:00", 2.0 + i)) for i in (0, 1)]
    kept = []
    for i, order in enumerate((folders, folders[::-1])):
        merge.merge(order, tmp_path / f"out{i}")
        kept += read_records(tmp_path / f"out{i}")
    assert len(kept) == 2 and kept[0] == kept[1]


def test_what_was_made_with_other_things_is_kept_beside_it(tmp_path):
    other = replace(OLD, freshness="0" * 16)
    elsewhere = replace(OLD, environment=OLD.environment | {"processor": "Another 1"})
    renamed = replace(OLD, cell=replace(OLD.cell, entry="nala_again"))
    card = replace(OLD, environment=OLD.environment | {"devices": {"cpu": "Another 2"}})
    every = (OLD, other, elsewhere, renamed, card)
    folders = [store(tmp_path / str(i), record) for i, record in enumerate(every)]
    merged = merge.merge(folders, tmp_path / "out")
    assert merged.conflicts == () and merged.added == 5
    assert set(map(str, read_records(tmp_path / "out"))) == set(map(str, every))


def test_a_bad_line_is_named_and_the_rest_is_merged(tmp_path, exits):
    folder = store(tmp_path / "a", OLD)
    path = folder / "records" / "a.jsonl"
    path.write_text('{"loss":1}\n' + path.read_text().rstrip())
    words = [str(folder), str(store(tmp_path / "sound", OLD)), f"out={tmp_path / 'out'}"]
    assert f"{path}:1 is left out" in exits(2, merge.main(words))
    assert read_records(tmp_path / "out") == (OLD,)
    path = made.stored(tmp_path / "killed", OLD)
    path.write_text(path.read_text() + '{"entry":"torn')
    said = exits(0, merge.main([str(tmp_path / "killed"), f"out={tmp_path / 'new'}"]))
    assert "1 record added" in said and "1 line left out" in said


@pytest.mark.parametrize("words", [[], ["a"], ["out=b"], ["nowhere", "out=b"], ["a", "to=b"]])
def test_what_cannot_be_merged_ends_with_2_and_writes_nothing(tmp_path, words, monkeypatch):
    monkeypatch.chdir(tmp_path)
    store(tmp_path / "a", OLD)
    assert merge.main(words) == 2
    assert not (tmp_path / "b").exists()


def test_calibrations_come_along_and_replace_none(tmp_path, exits):
    folders = [store(tmp_path / name, OLD) for name in ("a", "b")]
    for folder in folders:
        (folder / "calibration").mkdir()
        text = f'{{"ceilings": [], "made_at": "{folder.name}"}}'
        (folder / "calibration" / "one.json").write_text(text)
    merge.merge(folders, tmp_path / "out")
    assert '"a"' in (tmp_path / "out" / "calibration" / "one.json").read_text()
    (folders[1] / "calibration" / "two.json").write_text("{")
    words = [*map(str, folders), f"out={tmp_path / 'new'}"]
    assert "two.json is not a calibration" in exits(2, merge.main(words))
    assert not (tmp_path / "new").exists(), "nothing is merged in part"


def test_examples_come_along_and_one_that_differs_is_named(tmp_path):
    folders = [store(tmp_path / name, OLD) for name in ("a", "b", "c")]
    first = written(folders[0], TOKENS)
    same, other = written(folders[1], TOKENS), written(folders[2], IMAGES)
    another = written(folders[2], TOKENS | {"test_set": "f" * 16}, "f" * 16)
    out = tmp_path / "out"
    merged = merge.merge(folders, out)
    [sentence] = merged.conflicts
    assert sentence.startswith(
        f"{other} differs from {out / 'examples' / DIGEST}.json, which stays"
    )
    assert (out / "examples" / first.name).read_bytes() == first.read_bytes() == same.read_bytes()
    assert (out / "examples" / another.name).read_bytes() == another.read_bytes()
    once = files(out)
    merge.merge(folders, out)
    assert files(out) == once


def test_the_folder_of_the_files_themselves_is_answered_with_the_one_above(tmp_path, capsys):
    store(tmp_path / "a", OLD)
    assert merge.main([str(tmp_path / "a" / "records"), f"out={tmp_path / 'b'}"]) == 2
    assert f"Name {tmp_path / 'a'}, the folder above it." in capsys.readouterr().err
