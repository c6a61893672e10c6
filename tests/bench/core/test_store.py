import errno
import gzip
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from bench.core import store
from bench.core.cli import files
from bench.core.cli.errors import ConfigError
from bench.core.record import SCHEMA_VERSION, Status
from bench.core.store import (
    Store,
    StoreContents,
    StoreError,
    Tail,
    latest,
    line_numbers,
    read_lines,
    read_packed,
    read_records,
    read_store,
)
from tests import records as made

ONE = made.ok_record(made.kernel_cell("softmax"), made.speed([1.0, 2.0]))
TWO = made.ok_record(made.kernel_cell("nala"), made.speed([3.0]))
THREE = made.failed_record(made.kernel_cell("linear"), Status.CRASHED, "killed by SIGSEGV")

EACH = (ONE, TWO, THREE)


def test_what_is_appended_is_read_back_equal(tmp_path):
    everything = tuple(made.sweep_records())
    made.stored(tmp_path, *everything)
    assert read_records(tmp_path) == everything


def test_each_process_has_a_file_of_its_own_and_all_are_read(tmp_path):
    made.stored(tmp_path, TWO, name="b")
    made.stored(tmp_path, ONE, name="a")
    assert read_records(tmp_path) == (ONE, TWO)
    assert sorted(p.name for p in (tmp_path / "records").iterdir()) == ["a.jsonl", "b.jsonl"]
    path = made.stored(tmp_path, THREE, name="b")
    places = {one.cell.entry: line_numbers(tmp_path)[one.cell.key, one.started_at] for one in EACH}
    first = {"softmax": (path.with_name("a.jsonl"), 1), "nala": (path, 1)}
    assert places == first | {"linear": (path, 2)}


def test_an_appended_line_is_synced_to_the_disk_before_append_returns(tmp_path, monkeypatch):
    lengths = []
    sync = os.fsync

    def watch(handle):
        sync(handle)
        lengths.append(os.fstat(handle).st_size)

    monkeypatch.setattr(os, "fsync", watch)
    here = Store(tmp_path, "a")
    for record in (ONE, TWO):
        here.append(record)
        assert lengths[-1] == here.path.stat().st_size


def test_a_new_file_is_in_its_folder_for_good_before_its_first_record_is(tmp_path, monkeypatch):
    synced = []
    monkeypatch.setattr(os, "fsync", lambda handle: synced.append(os.fstat(handle).st_ino))
    path = made.stored(tmp_path, ONE, TWO)
    folder, file = path.parent.stat().st_ino, path.stat().st_ino
    assert synced == [folder, file, file]


def test_a_killed_process_loses_none_of_the_records_it_appended(tmp_path):
    code = (
        "import os, signal, sys; from pathlib import Path; from bench.core.store import Store;"
        "from bench.core.record import Record; here = Store(Path(sys.argv[1]), 'a');"
        "[here.append(Record.from_json(line)) for line in sys.stdin];"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    lines = "\n".join(record.to_json() for record in (ONE, TWO, THREE))
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], input=lines, text=True, check=False
    )
    assert done.returncode == -9
    assert read_records(tmp_path) == (ONE, TWO, THREE)


@pytest.mark.parametrize("kept", [1, 40, -1])
def test_a_torn_last_line_is_reported_and_passed_over(tmp_path, kept):
    path = made.stored(tmp_path, ONE, TWO)
    whole = path.read_bytes()
    torn = THREE.to_json().encode()[:kept]
    path.write_bytes(whole + torn)
    contents = read_store(tmp_path)
    assert contents.records == (ONE, TWO)
    (said,) = contents.describe()
    assert f"{path}:3" in said


def test_a_hole_of_zeros_after_a_power_cut_counts_as_torn(tmp_path):
    path = made.stored(tmp_path, ONE)
    path.write_bytes(path.read_bytes() + b"\0" * 64)
    contents = read_store(tmp_path)
    assert contents.records == (ONE,) and not contents.is_damaged
    (said,) = contents.describe()
    assert said.startswith(f"{path}:2") and "is torn" in said
    made.stored(tmp_path, TWO)
    assert read_store(tmp_path) == StoreContents(records=(ONE, TWO), left_out=())


def test_appending_after_a_torn_line_starts_on_a_new_line(tmp_path):
    path = made.stored(tmp_path, ONE)
    path.write_bytes(path.read_bytes() + TWO.to_json().encode()[:-20])
    made.stored(tmp_path, THREE)
    assert read_store(tmp_path) == StoreContents(records=(ONE, THREE), left_out=())


def test_a_torn_line_in_the_middle_is_left_out_by_file_and_line(tmp_path):
    path = made.stored(tmp_path, ONE, TWO, THREE)
    lines = path.read_bytes().split(b"\n")
    path.write_bytes(b"\n".join([lines[0], lines[1][:50], lines[2], b'{"entry":"at the end']))
    contents = read_store(tmp_path)
    assert contents.records == (ONE, THREE) and contents.is_damaged
    assert contents.describe()[0].startswith(f"{path}:2 is left out: ")


@pytest.mark.parametrize(
    "line",
    [
        b'{"epoch": 3, "loss": 0.1}\n',
        b"[1, 2]\n",
        ONE.to_json().replace('"status":"ok"', '"status":"fine"').encode() + b"\n",
        b"[" * 100_000 + b"\n",
        b"\x80\xff\x00\x01PNG\n",
    ],
    ids=["others", "list", "status", "deep", "bytes"],
)
def test_a_foreign_line_is_left_out(tmp_path, line):
    path = made.stored(tmp_path, ONE)
    (path.parent / "foreign.jsonl").write_bytes(line)
    contents = read_store(tmp_path)
    assert contents.records == (ONE,) and contents.is_damaged
    assert "foreign.jsonl:1 is left out" in contents.describe()[0]


def test_a_line_that_is_too_long_is_left_out_whole(tmp_path, monkeypatch):
    monkeypatch.setattr(store, "MAX_LINE_BYTES", 10_000)
    path = made.stored(tmp_path, ONE, TWO)
    path.write_bytes(b'{"entry":"' + b"x" * 35_000 + b'"}\n' + path.read_bytes())
    first, *others = read_lines(tmp_path)
    assert first.record is None and first.size == 35_013
    assert [line.number for line in others] == [2, 3]
    assert [line.record for line in others] == [ONE, TWO]
    assert others[1].read() == TWO.to_json().encode() + b"\n"


def test_a_record_of_a_newer_schema_says_so(tmp_path):
    path = made.stored(tmp_path, ONE)
    newer = json.loads(ONE.to_json()) | {"schema_version": SCHEMA_VERSION + 1, "cell": "other"}
    path.write_text(json.dumps(newer) + "\n")
    with pytest.raises(ConfigError, match=r"a newer attnbench wrote it: schema"):
        read_store(tmp_path)
    assert [line.is_newer for line in read_lines(tmp_path)] == [True]


def test_stores_below_a_folder_are_those_with_a_line_at_any_depth(tmp_path):
    made.stored(tmp_path / "blank").write_text("\n")
    outs = [made.stored(tmp_path / name, ONE).parent.parent for name in ("a", "deep/b")]
    assert store.stores_below(tmp_path) == outs


@pytest.mark.parametrize("make", [lambda p: None, Path.mkdir, lambda p: p.write_text("")])
def test_a_store_without_records_asks_for_a_sweep_unless_that_is_expected(tmp_path, make):
    make(tmp_path / "records")
    with pytest.raises(ConfigError, match="run a sweep first"):
        read_records(tmp_path)
    assert read_records(tmp_path, missing_ok=True) == ()


@pytest.mark.parametrize(
    ("error", "raised", "words"),
    [
        (OSError(errno.ENOSPC, "No space left"), StoreError, "No space left.*Free some space"),
        (OSError(errno.EDQUOT, "Quota used up"), StoreError, "Quota used up.*Free some space"),
        (OSError(errno.EIO, "Broken"), StoreError, "Broken.*Choose another out"),
        (KeyboardInterrupt(), KeyboardInterrupt, "^$"),
    ],
    ids=["full disk", "quota", "broken disk", "Ctrl-C"],
)
def test_a_write_that_ends_in_the_middle_keeps_what_was_written(
    tmp_path, monkeypatch, error, raised, words
):
    here = Store(tmp_path, "a")
    here.append(ONE)

    def half(file, data):
        os.write(file.fileno(), data[:100])
        raise error

    monkeypatch.setattr(files, "write_all", half)
    with pytest.raises(raised, match=words):
        here.append(TWO)
    monkeypatch.undo()
    assert here.path.read_text() == ONE.to_json() + "\n"
    here.append(TWO)
    assert read_records(tmp_path) == (ONE, TWO)


def test_a_disk_without_room_is_told_before_anything_is_measured(tmp_path, monkeypatch):
    def full(_):  # some file systems look for a place only when they are asked to sync
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    here = Store(tmp_path, "a")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StoreError, match=r"Cannot write 256 KiB .* No space left"):
        here.check_space()
    assert list((tmp_path / "records").iterdir()) == []


def test_the_newest_record_of_a_cell_counts_and_of_one_moment_the_later_line():
    cell = made.kernel_cell("nala")
    old = made.failed_record(cell, Status.TIMED_OUT, "too slow", started_at="2031-01-01T00:00:00Z")
    new = made.ok_record(cell, made.speed([1.0]), started_at="2031-01-02T00:00:00Z")
    assert latest([old, new]) == [new]
    assert latest([new, old]) == [new]
    first, second = made.ok_record(cell, made.speed([1.0])), made.ok_record(cell, made.speed([2.0]))
    assert latest([first, second]) == [second]


def test_rows_and_machines_of_one_cell_are_kept_apart_unless_it_is_a_score():
    cell = made.kernel_cell("nala")
    renamed = made.kernel_cell("nala_again", mechanism="nala")
    assert cell.key == renamed.key
    elsewhere = made.ENVIRONMENT | {"processor": "Another 1"}
    records = [
        made.ok_record(cell, made.speed([1.0])),
        made.ok_record(renamed, made.speed([1.0])),
        made.ok_record(cell, made.speed([1.0]), environment=elsewhere),
    ]
    on_card = made.kernel_cell("nala", device="cuda:0")
    for card in ({"devices": {"cuda:0": name}} for name in ("H100", "H200")):
        records.append(made.ok_record(on_card, made.speed([1.0]), environment=card))
    assert latest(records) == records
    old, new = made.task_records(["nala"], seeds=[0]) * 2
    new = replace(new, started_at="2031-06-02T00:00:00Z", environment=elsewhere)
    assert latest([new, old]) == [new]


def test_packed_records_of_a_newer_schema_are_left_out(tmp_path):
    newer = json.loads(ONE.to_json()) | {"schema_version": SCHEMA_VERSION + 1}
    lines = [json.dumps(newer), TWO.to_json()]
    file = tmp_path / "records.jsonl.gz"
    file.write_bytes(gzip.compress("\n".join(lines).encode()))
    assert list(read_packed(file)) == [TWO]
    assert list(read_packed(tmp_path / "none.gz")) == []
    for content in (gzip.compress(TWO.to_json().encode()[:-9]), b"no gzip"):
        file.write_bytes(content)
        with pytest.raises(ConfigError, match=r"records\.jsonl\.gz holds no records"):
            list(read_packed(file))


def test_a_tail_gives_what_others_append_once_it_is_whole(tmp_path):
    before, own, other = (Store(tmp_path, name) for name in "abc")
    before.append(ONE)
    tail = Tail(tmp_path)
    tail.leave_out(own)
    assert list(tail.read()) == []
    own.append(ONE)
    line = TWO.to_json().encode() + b"\n"
    other.path.write_bytes(b"no record\n" + line[:50])
    assert list(tail.read()) == []
    other.path.write_bytes(b"no record\n" + line)
    before.append(TWO)
    assert list(tail.read()) == [TWO, TWO]
    assert list(tail.read()) == []
