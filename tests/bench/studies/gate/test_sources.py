import json
import os
from dataclasses import replace

import pytest

from bench.core.cli.errors import ConfigError
from bench.studies.gate.baselines import append_baseline, baselines_of
from bench.studies.gate.sources import read_side
from tests.records import block_records

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
    return [cell.entry for cell in side.cells]


def test_a_sweeps_folder_its_records_folder_and_one_file_name_the_same_numbers(out):
    whole = read(out)
    assert entries(whole) == ["softmax", "linear"]
    assert read(out / "records").cells == whole.cells
    assert read(out / "records" / "one.jsonl").cells == whole.cells


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
        (lambda path: path.write_text('{"baseline_version":' + "[" * 100_000), "not a baseline"),
        (lambda path: path.write_text('{"baseline_version":"x"}'), "not a baseline"),
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
