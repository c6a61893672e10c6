"""Files of a stranger's store; commands that read them are tested in test_hostile_stores."""

import os

import pytest

from bench.core.cli.errors import ConfigError
from bench.core.cli.stored_files import open_regular, read_inside, read_regular, regular_files


def test_files_are_sorted_and_a_missing_folder_has_none(tmp_path):
    assert regular_files(tmp_path, "records/*.jsonl") == []
    (tmp_path / "records").mkdir()
    for name in ("b.jsonl", "a.jsonl", "c.json"):
        (tmp_path / "records" / name).touch()
    found = regular_files(tmp_path, "records/*.jsonl")
    assert [file.name for file in found] == ["a.jsonl", "b.jsonl"]
    assert regular_files(tmp_path, "records/a.jsonl/*.jsonl") == []


def test_a_file_that_is_too_large_is_refused(tmp_path):
    file = tmp_path / "a.json"
    file.write_text("12345")
    for read in (lambda most: read_inside(tmp_path, file, most), lambda n: read_regular(file, n)):
        assert read(5) == b"12345"
        with pytest.raises(ConfigError, match="more than 4 bytes"):
            read(4)


@pytest.mark.parametrize("words", ["../a", "b/../../a", "/etc/hostname"])
def test_nothing_outside_of_the_root_is_opened(tmp_path, words):
    with pytest.raises(ConfigError, match="leads out of"):
        read_inside(tmp_path / "out", tmp_path / "out" / words)


def test_a_users_own_data_may_be_linked_and_has_to_be_regular(tmp_path):
    (tmp_path / "a.png").write_bytes(b"image")
    (tmp_path / "link.png").symlink_to("a.png")
    assert read_regular(tmp_path / "link.png") == b"image"
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(ConfigError, match=r"pipe\.png is not a file"):
        open_regular(tmp_path / "pipe.png")
    with pytest.raises(ConfigError, match=r"none\.png cannot be read: No such file"):
        read_regular(tmp_path / "none.png")
