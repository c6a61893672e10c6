"""Stores of strangers: whatever lies in one, commands end in a sentence and write nothing else."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from bench import fsck, merge, validate
from bench.core.calibration import read_calibration
from bench.core.cli.errors import ConfigError
from bench.core.proofs import append_badges, read_badges, read_goldens
from bench.core.store import Store, StoreError, Tail, line_numbers, read_store
from bench.measuring.sharing.leases import Leases
from bench.publishing.charts.write import write_charts
from bench.publishing.diagnostics import read_diagnostics
from bench.publishing.document import Chart
from bench.studies.numerics.page import read_findings
from bench.studies.reproduce.findings import read_finding
from tests import records as made

ONE, TWO = made.block_records(["softmax", "nala"], num_rounds=3)
PRECIOUS = b'{"precious": 1}\n'

Put = Callable[[Path, Path], None]
"""Puts something hostile at a path; the second one is a file that is none of the store's."""

KINDS: dict[str, Put] = {
    "fifo": lambda path, _: os.mkfifo(path),
    "foreign": lambda path, mine: path.symlink_to(mine),
}
FILES = {
    "records/z.jsonl": ("fsck", "validate", "merge", "sweep"),
    "calibration/x.json": ("fsck", "validate", "merge"),
    "examples/0123456789abcdef.json": ("validate", "merge"),
    "quarantine/a.jsonl": ("fsck",),
    "badges/x.jsonl": ("badges",),
    "verify.json": ("verify.json",),
    "diagnostics.jsonl": ("diagnostics",),
    "diagnostics/diagnostics.jsonl": ("diagnostics",),
    "numerics/x.jsonl": ("numerics",),
    "findings/x.json": ("findings",),
}
"""What lies in a store, and who reads it."""


@pytest.fixture
def out(tmp_path):
    """A store with a copy of a record, which fsck would put aside."""
    root = tmp_path / "out"
    made.stored(root, ONE, TWO, ONE)
    return root


@pytest.fixture
def mine(tmp_path):
    """A private file that is none of the store's."""
    file = tmp_path / "elsewhere" / "mine.jsonl"
    file.parent.mkdir()
    file.write_bytes(PRECIOUS)
    file.chmod(0o600)
    return file


def sweep(out):
    """What a sweep reads of its store."""
    read_store(out)
    line_numbers(out)
    list(Tail(out).read())
    with Leases(out):
        pass


READERS: dict[str, Callable[[Path], object]] = {
    "sweep": sweep,
    "badges": read_badges,
    "verify.json": lambda out: read_goldens(out / "verify.json"),
    "diagnostics": read_diagnostics,
    "numerics": read_findings,
    "findings": lambda out: read_finding(out, "x"),
}
COMMANDS: dict[str, Callable[[Path], int]] = {
    "fsck": lambda out: fsck.main([str(out)]),
    "validate": lambda out: validate.main([str(out)]),
    "merge": lambda out: merge.main([str(out), f"out={out.parent / 'to'}"]),
}


def refused(who, out, capsys):
    """How a reader or a command refuses a store."""
    if who in READERS:
        with pytest.raises(ConfigError) as caught:
            READERS[who](out)
        return str(caught.value)
    assert COMMANDS[who](out) == 2
    return capsys.readouterr().err


@pytest.mark.parametrize("put", KINDS.values(), ids=KINDS.keys())
@pytest.mark.parametrize(("place", "who"), [(p, w) for p, all_ in FILES.items() for w in all_])
def test_a_file_that_is_none_is_named_and_not_read(out, mine, place, who, put, capsys):
    path = out / place
    path.parent.mkdir(exist_ok=True)
    path.unlink(missing_ok=True)
    put(path, mine)
    said = refused(who, out, capsys)
    assert str(path) in said and ("is a link" in said or "is not a file but a FIFO" in said)
    assert mine.read_bytes() == PRECIOUS and os.listdir(mine.parent) == [mine.name]


@pytest.mark.parametrize(
    ("place", "who"),
    [
        *((str(Path(p).parent), w) for p, all_ in FILES.items() if "/" in p for w in all_),
        *(("claims", who) for who in ("fsck", "sweep")),
    ],
)
def test_a_folder_that_is_a_link_is_named_and_nothing_is_written_behind_it(
    out, mine, place, who, capsys
):
    path = out / place
    if path.exists():
        path.rename(out / "kept")
    (mine.parent / Path(path.name + ".jsonl")).write_bytes(PRECIOUS)
    for name in ("diagnostics.jsonl", "x.json"):
        (mine.parent / name).write_bytes(PRECIOUS)
    before = {file: file.read_bytes() for file in mine.parent.iterdir()}
    path.symlink_to(mine.parent)
    said = refused(who, out, capsys)
    assert f"{path} is a link" in said
    assert {file: file.read_bytes() for file in mine.parent.iterdir()} == before


def test_a_linked_folder_of_records_below_is_left_alone_by_fsck_and_named(out, mine, exits):
    (out / "sub").mkdir()
    (out / "sub" / "records").symlink_to(mine.parent)
    assert "sub/records is a link" in exits(2, fsck.main([str(out)]))
    assert mine.read_bytes() == PRECIOUS and os.listdir(out / "sub") == ["records"]


def test_nothing_is_appended_through_a_link(out, mine):
    (out / "badges").symlink_to(mine.parent)
    with pytest.raises(ConfigError, match="badges is a link"):
        append_badges(out, "mine", "nala", [])
    (out / "records" / "b.jsonl").symlink_to(mine)
    with pytest.raises(ConfigError, match=r"b\.jsonl is a link"):
        Store(out, "b").append(ONE)
    (out / "linked").mkdir()
    (out / "linked" / "records").symlink_to(mine.parent)
    with pytest.raises(ConfigError, match="records is a link"):
        Store(out / "linked", "mine")
    assert mine.read_bytes() == PRECIOUS


@pytest.mark.parametrize("place", ["badges/x.jsonl", "verify.json", "numerics/x.jsonl"])
def test_what_is_nested_deeply_is_told(out, place):
    (out / place).parent.mkdir(exist_ok=True)
    (out / place).write_text("[" * 100_000 + "\n")
    with pytest.raises(ConfigError, match=r"x\.jsonl|verify\.json"):
        READERS[place.partition("/")[0]](out)


def test_a_lease_that_says_nothing_is_dead_after_a_minute(out):
    for number, content in enumerate(
        [b"\xff\xfe", b"[" * 100_000, b'{"host": []}', b'{"host": "a", "pid": -1}']
    ):
        file = out / "claims" / f"block {number}"
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(content)
        with Leases(out) as leases:
            assert not leases.acquire(file.name)
            assert list(leases.others()) == []
            os.utime(file, (1e9, 1e9))
            assert leases.acquire(file.name)
            leases.release(file.name)
            file.write_bytes(content)
            os.utime(file, (1e11, 1e11))  # a clock was set back
            assert leases.acquire(file.name)


@pytest.mark.parametrize("put", [*KINDS.values(), lambda path, _: path.mkdir()])
def test_a_lease_that_is_no_file_is_named_and_left_alone(out, mine, put):
    (out / "claims").mkdir()
    put(out / "claims" / "block", mine)
    with Leases(out) as leases:
        assert list(leases.others()) == []
        with pytest.raises(StoreError, match=r"lease .*block"):
            leases.acquire("block")
    assert os.listdir(out / "claims") == ["block"] and mine.read_bytes() == PRECIOUS
    assert fsck.main([str(out)]) == 0


@pytest.mark.parametrize("main", [fsck.main, validate.main], ids=["fsck", "validate"])
@pytest.mark.parametrize("word", ["", "x" * 5000])
def test_a_word_that_is_no_folder_is_refused(out, monkeypatch, main, word):
    monkeypatch.chdir(out)
    assert main([word]) == 2


def test_the_calibration_of_a_store_whose_name_is_too_long_is_told():
    with pytest.raises(ConfigError, match="File name too long"):
        read_calibration(Path("x" * 5000), {})


def test_what_was_private_stays_so_when_it_is_put_aside_and_merged(out):
    (out / "records" / "a.jsonl").chmod(0o600)
    calibration = out / "calibration" / "bad.json"
    calibration.parent.mkdir()
    calibration.write_text("{")
    calibration.chmod(0o600)
    assert fsck.main([str(out)]) == 0
    assert merge.main([str(out), f"out={out.parent / 'to'}"]) == 0
    (merged,) = (out.parent / "to" / "records").iterdir()
    aside = out / "quarantine"
    for file in (out / "records" / "a.jsonl", aside / "a.jsonl", aside / "bad.json", merged):
        assert file.stat().st_mode & 0o777 == 0o600, file


def test_pictures_are_not_written_behind_a_link(out, mine):
    (out / "charts").symlink_to(mine.parent)
    chart = Chart(name="mine", title="", spec={})
    with pytest.raises(ConfigError, match="charts is a link"):
        write_charts([chart], out / "charts")
    assert os.listdir(mine.parent) == [mine.name]
