import json

import pytest

from bench import fsck
from bench.core.record import SCHEMA_VERSION
from bench.core.store import read_records, read_store
from bench.measuring.sharing.leases import Leases
from tests import records as made

ONE, TWO = made.block_records(["softmax", "nala"], num_rounds=3)


def content(out):
    return {str(p.relative_to(out)): p.read_bytes() for p in out.rglob("*") if p.is_file()}


def damaged(out):
    """Bad lines of all kinds around two good ones, and all bytes that were there."""
    path = made.stored(out, ONE, TWO)
    first, second = path.read_bytes().splitlines(keepends=True)
    newer = json.dumps(json.loads(first) | {"schema_version": SCHEMA_VERSION + 1}).encode() + b"\n"
    foreign, wrong = b'{"loss":1}\n', first.replace(b'"seq_len":256', b'"seq_len":-5')
    path.write_bytes(foreign + first + wrong + newer + first + b"\x80\xff\n" + second + first[:99])
    return path


def test_bad_lines_are_put_aside_and_nothing_is_lost(tmp_path, exits):
    path = damaged(tmp_path)
    before = path.read_bytes()
    (tmp_path / "quarantine").mkdir()
    (tmp_path / "quarantine" / "a.jsonl").write_bytes(b"from an earlier repair\n")
    said = exits(0, fsck.main([str(tmp_path)]))
    assert f"{path}:1: entry is missing; moved to quarantine/." in said
    assert f"{path}:3: seq_len is -5" in said
    assert f"{path}:4 stays: a newer attnbench wrote it" in said
    assert f"{path}:5: a copy of {path}:2; moved" in said
    assert f"{path}:8: it is torn" in said
    assert "1 store: 5 findings repaired." in said
    assert read_records(tmp_path) == (ONE, TWO)
    aside = (tmp_path / "quarantine" / "a.jsonl").read_bytes()
    after = path.read_bytes().splitlines() + aside.splitlines()
    assert sorted(after) == sorted([*before.splitlines(), b"from an earlier repair"])


def test_a_second_run_changes_nothing(tmp_path, capsys, exits):
    damaged(tmp_path)
    fsck.main([str(tmp_path)])
    once = content(tmp_path)
    capsys.readouterr()
    assert "0 findings repaired." in exits(0, fsck.main([str(tmp_path)]))
    assert content(tmp_path) == once


def test_a_repair_that_was_cut_off_is_finished(tmp_path, monkeypatch):
    path = damaged(tmp_path)
    write = fsck.write_whole

    def dies(target, content, **more):
        if target == path:
            raise KeyboardInterrupt
        return write(target, content, **more)

    monkeypatch.setattr(fsck, "write_whole", dies)
    assert fsck.main([str(tmp_path)]) == 130
    monkeypatch.undo()
    aside = (tmp_path / "quarantine" / "a.jsonl").read_bytes()
    assert fsck.main([str(tmp_path)]) == 0
    assert (tmp_path / "quarantine" / "a.jsonl").read_bytes() == aside
    assert not [line for line in read_store(tmp_path).left_out if not line.is_newer]


def test_a_file_that_grows_meanwhile_is_left_alone(tmp_path, monkeypatch, exits):
    path = damaged(tmp_path)
    move = fsck._quarantine

    def late(*given):
        move(*given)
        path.write_bytes(path.read_bytes() + b"a line of a sweep\n")

    monkeypatch.setattr(fsck, "_quarantine", late)
    assert "a.jsonl is being written to. Try again" in exits(2, fsck.main([str(tmp_path)]))
    assert path.read_bytes().endswith(b"a line of a sweep\n")


def test_dry_run_changes_nothing_and_exits_with_1(tmp_path):
    damaged(tmp_path)
    before = content(tmp_path)
    assert fsck.main([str(tmp_path), "dry_run=true"]) == 1
    assert content(tmp_path) == before
    made.stored(tmp_path / "sound", ONE)
    assert fsck.main([str(tmp_path / "sound"), "dry_run=true"]) == 0


def test_an_end_that_is_missing_is_added(tmp_path):
    path = made.stored(tmp_path, ONE)
    whole = path.read_bytes()
    path.write_bytes(whole.rstrip())
    assert fsck.main([str(tmp_path)]) == 0
    assert path.read_bytes() == whole and not (tmp_path / "quarantine").exists()


def test_a_damaged_calibration_is_put_aside(tmp_path):
    made.stored(tmp_path, ONE)
    folder = tmp_path / "calibration"
    folder.mkdir()
    (folder / "good.json").write_text('{"ceilings": []}')
    (folder / "bad.json").write_text('{"ceilings": [{}]}\n{')
    assert fsck.main([str(tmp_path)]) == 0
    assert [file.name for file in folder.iterdir()] == ["good.json"]
    assert (tmp_path / "quarantine" / "bad.json").read_text() == '{"ceilings": [{}]}\n{\n'


def test_a_store_that_a_sweep_writes_to_is_left_alone(tmp_path, exits):
    damaged(tmp_path)
    before = content(tmp_path)
    with Leases(tmp_path) as leases:
        assert leases.acquire("block", "nala at 256")
        assert "which measures nala at 256" in exits(2, fsck.main([str(tmp_path)]))
        assert fsck.main([str(tmp_path), "dry_run=true"]) == 1
    assert content(tmp_path) == before


@pytest.mark.parametrize("words", [[], ["nowhere"], ["a", "dry_run=perhaps"], ["a", "dry=true"]])
def test_words_that_make_no_sense_end_with_2(tmp_path, words, monkeypatch):
    monkeypatch.chdir(tmp_path)
    made.stored(tmp_path / "a", ONE)
    assert fsck.main(words) == 2
