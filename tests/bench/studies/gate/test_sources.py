import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from bench.core.cli.errors import ConfigError
from bench.studies.gate.baselines import append_baseline, baselines_of
from bench.studies.gate.sources import read_side, side_of_records
from bench.studies.gate.stored import compare_stored
from bench.studies.gate.verdict import GateVerdict
from tests.records import block_records, changed

RECORDS = block_records(["softmax", "linear"])


@pytest.fixture
def out(tmp_path):
    folder = tmp_path / "results"
    (folder / "records").mkdir(parents=True)
    lines = [record.to_json() + "\n" for record in RECORDS]
    (folder / "records" / "one.jsonl").write_text("".join(lines))
    return folder


def read(path):
    return read_side("baseline", path)


def entries(side):
    return [one.cell.entry for baseline in side.baselines for one in baseline.cells]


def test_a_sweeps_folder_its_records_folder_and_one_file_name_the_same_numbers(out):
    whole = read(out)
    assert entries(whole) == ["softmax", "linear"]
    assert read(out / "records").baselines == whole.baselines
    assert read(out / "records" / "one.jsonl").baselines == whole.baselines


def test_of_a_baselines_file_the_last_line_counts(tmp_path):
    (baseline,) = baselines_of(RECORDS)
    append_baseline(baseline, tmp_path)
    file = append_baseline(replace(baseline, commit="1" * 40, date="2031-06-01"), tmp_path)
    assert read(file).commit == "1" * 40
    assert entries(read(file)) == ["softmax", "linear"]


def test_a_folder_of_baselines_asks_for_one_of_its_files(tmp_path):
    (baseline,) = baselines_of(RECORDS)
    file = append_baseline(baseline, tmp_path)
    with pytest.raises(ConfigError, match="Name one") as caught:
        read(file.parent)
    assert str(file) in str(caught.value)


def test_a_last_line_that_was_cut_short_is_passed_over(out):
    file = out / "records" / "one.jsonl"
    with file.open("a") as end:
        end.write(RECORDS[0].to_json()[:200])
    assert entries(read(file)) == ["softmax", "linear"]


def test_a_broken_line_in_the_middle_is_refused_with_its_number(out):
    file = out / "records" / "one.jsonl"
    file.write_text("{}\n" + file.read_text())
    with pytest.raises(ConfigError, match=r"one.jsonl:1 is not a record"):
        read(file)


def test_records_of_a_newer_form_are_refused(out):
    file = out / "records" / "one.jsonl"
    line = json.loads(file.read_text().splitlines()[0]) | {"schema_version": 99}
    file.write_text(json.dumps(line) + "\n")
    with pytest.raises(ConfigError, match="newer attnbench"):
        read(file)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("empty.jsonl", b"", "is empty"),
        ("blank.json", b" \n", "is empty"),
        ("foreign.jsonl", b'{"a": 1}\n{"b": 2}\n', "is not a record"),
        ("words.txt", b"hello\n", "is not a record"),
        ("list.json", b"[1, 2]", "holds no record"),
        ("other.json", b'{"benchmarks": []}', "holds no record"),
        ("bytes.jsonl", b"\xff\xfe\x00", "is not a text"),
    ],
)
def test_files_that_hold_no_numbers_are_refused_in_words(tmp_path, name, content, words):
    file = tmp_path / name
    file.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        read(file)
    assert words in str(caught.value) and name in str(caught.value)


def test_what_is_not_there_or_an_empty_folder_is_refused_with_what_is_taken(tmp_path):
    for path in (tmp_path / "nothing", tmp_path):
        with pytest.raises(ConfigError, match=r"It takes a sweep's folder .* baselines"):
            read(path)
    (tmp_path / "records").mkdir()
    with pytest.raises(ConfigError, match="There are no records"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("put", "words"),
    [
        (os.mkfifo, "not a file but a FIFO"),
        (lambda path: path.symlink_to("/dev/zero"), "not a file but a device"),
        (
            lambda path: path.write_text('{"baseline_version":' + "[" * 100_000 + "\n"),
            "is no Baseline",
        ),
        (lambda path: path.write_text('{"baseline_version":' + "[" * 100_000), "holds no baseline"),
        (lambda path: path.write_text('{"baseline_version":"x"}'), "is no Baseline"),
    ],
)
def test_what_is_no_file_of_numbers_is_named(tmp_path, put, words):
    put(tmp_path / "one.jsonl")
    with pytest.raises(ConfigError, match=words):
        read(tmp_path / "one.jsonl")


def test_no_baseline_is_written_behind_a_link(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "baselines").symlink_to("../elsewhere")
    with pytest.raises(ConfigError, match="is a link"):
        append_baseline(baselines_of(RECORDS)[0], tmp_path / "out")
    assert not list((tmp_path / "elsewhere").iterdir())


ENTRIES = ("softmax", "linear", "nala")


def slowed(record, factor, *also):
    samples = {name: getattr(record.result, name) for name in ("latency_s", *also)}
    return changed(record, **{n: tuple(s * factor for s in own) for n, own in samples.items()})


def compared(before, after):
    base, current = side_of_records(before, "a"), side_of_records(after, "b")
    return compare_stored(base.baselines, current.baselines, 0.2, 0.01)


def test_two_sweeps_that_differ_by_the_machines_speed_only_are_the_same():
    before = block_records(ENTRIES, seed=0)
    rows = compared(before, [slowed(record, 2, "reference_latency_s") for record in before])
    assert not [row for row in rows if row.verdict is GateVerdict.SLOWER]


def test_one_slow_mechanism_is_found_in_another_sweep_and_named_alone():
    before, after = block_records(ENTRIES, seed=0), block_records(ENTRIES, seed=1)
    after = [slowed(r, 1.4) if r.cell.entry == "nala" else r for r in after]
    slower = [row.entry for row in compared(before, after) if row.verdict is GateVerdict.SLOWER]
    assert slower == ["nala"]


def test_the_newest_record_of_a_cell_counts():
    (_, linear, _) = block_records(ENTRIES)
    old = slowed(replace(linear, started_at="2030-01-01T00:00:00Z"), 9.0)
    assert {row.verdict for row in compared([linear], [linear, old])} == {GateVerdict.SAME}


def test_a_side_says_where_it_is_from_and_of_which_commit():
    records = block_records(ENTRIES)
    one = side_of_records(records, "results")
    assert one.words == "results, commit 000000000000" and one.commit == "0" * 40
    assert one.torch == {"2.13.0"} and one.entries == set(ENTRIES)
    other = replace(records[0], environment=records[0].environment | {"commit": "1" * 40})
    assert side_of_records([*records, other], "results").commit is None
    unknown = [replace(r, environment=r.environment | {"commit": None}) for r in records]
    assert side_of_records(unknown, "results").words == "results"


def test_a_path_that_cannot_be_looked_at_is_told():
    with pytest.raises(ConfigError, match=r"(is not there|cannot be read)"):
        read(Path(*["x" * 250] * 17))
