"""Files of a store are regular and inside it; what is met instead is named, never waited for."""

import os
from collections.abc import Callable
from pathlib import Path
from unittest.mock import Mock

import pytest

from bench.core.cli.errors import ConfigError
from bench.core.cli.stored_files import (
    folder_inside,
    folders_below,
    open_regular,
    read_inside,
    read_regular,
    regular_files,
)

HOSTILE: dict[str, tuple[Callable[[Path], None], str]] = {
    "fifo": (os.mkfifo, "is not a file but a FIFO"),
    "folder": (os.mkdir, "is not a file but a folder"),
    "endless": (lambda path: path.symlink_to("/dev/zero"), "is a link"),
    "dangling": (lambda path: path.symlink_to("nowhere"), "is a link"),
    "loop": (lambda path: path.symlink_to(path.name), "is a link"),
    "foreign": (lambda path: path.symlink_to("/etc/hostname"), "is a link"),
}
"""Name -> what lies where a file of a store should be, and the words about it."""

hostile = pytest.mark.parametrize(("put", "words"), HOSTILE.values(), ids=HOSTILE.keys())


@hostile
def test_what_is_no_file_of_the_store_is_named_and_not_read(tmp_path, put, words):
    path = tmp_path / "records" / "a.jsonl"
    path.parent.mkdir()
    put(path)
    with pytest.raises(ConfigError, match=rf"a\.jsonl {words}"):
        read_inside(tmp_path, path)
    with pytest.raises(ConfigError, match=rf"a\.jsonl {words}"):
        regular_files(tmp_path, "records/*.jsonl")


def test_a_folder_that_is_a_link_is_named(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "a.jsonl").write_text("mine")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "records").symlink_to(tmp_path / "elsewhere")
    out = tmp_path / "out"
    with pytest.raises(ConfigError, match="out/records is a link"):
        regular_files(out, "records/*.jsonl")
    with pytest.raises(ConfigError, match="out/records is a link"):
        read_inside(out, out / "records" / "a.jsonl")
    with pytest.raises(ConfigError), folder_inside(out, out / "records" / "deeper", make=True):
        pass
    assert [path.name for path in (tmp_path / "elsewhere").iterdir()] == ["a.jsonl"]


def test_the_root_of_a_store_may_be_a_link(tmp_path):
    (tmp_path / "real" / "records").mkdir(parents=True)
    (tmp_path / "real" / "records" / "a.jsonl").write_text("ours")
    root = tmp_path / "link"
    root.symlink_to("real")
    (file,) = regular_files(root, "records/*.jsonl")
    assert read_inside(root, file) == b"ours"


def test_files_are_sorted_and_a_missing_folder_has_none(tmp_path):
    assert regular_files(tmp_path, "records/*.jsonl") == []
    (tmp_path / "records").mkdir()
    for name in ("b.jsonl", "a.jsonl", "c.json"):
        (tmp_path / "records" / name).touch()
    found = regular_files(tmp_path, "records/*.jsonl")
    assert [file.name for file in found] == ["a.jsonl", "b.jsonl"]
    (tmp_path / "file").touch()
    assert regular_files(tmp_path, "file/*.jsonl") == []
    assert regular_files(tmp_path / ("x" * 200), "records/*.jsonl") == []
    with pytest.raises(ConfigError, match="cannot be read: File name too long"):
        regular_files(tmp_path / ("x" * 5000), "records/*.jsonl")


def test_a_file_that_is_too_large_is_refused(tmp_path):
    file = tmp_path / "a.json"
    file.write_text("12345")
    assert read_inside(tmp_path, file, 5) == b"12345"
    with pytest.raises(ConfigError, match="more than 4 bytes"):
        read_inside(tmp_path, file, 4)


@pytest.mark.parametrize("words", ["../a", "b/../../a", "/etc/hostname"])
def test_nothing_outside_of_the_root_is_opened(tmp_path, words):
    with pytest.raises(ValueError, match=r"not below|not in the subpath"):
        read_inside(tmp_path / "out", tmp_path / "out" / words)


def test_folders_are_found_at_any_depth_and_links_are_not_entered(tmp_path):
    for inside in ("records", "a/records", "a/b/c/records"):
        (tmp_path / inside).mkdir(parents=True)
    (tmp_path / "a" / "up").symlink_to(tmp_path)
    (tmp_path / "z").mkdir()
    (tmp_path / "z" / "records").symlink_to(tmp_path / "a")
    found = [str(path.relative_to(tmp_path)) for path in folders_below(tmp_path, "records")]
    assert found == ["a/b/c/records", "a/records", "records", "z/records"]
    assert folders_below(tmp_path / ("x" * 5000), "records") == []


def test_a_link_in_a_circle_hides_no_folder_beside_it(tmp_path):
    for number in range(20):
        (tmp_path / f"s{number:02}" / "records").mkdir(parents=True)
    (tmp_path / "records").symlink_to("records")
    found = folders_below(tmp_path, "records")
    assert found == [tmp_path / f"s{n:02}" / "records" for n in range(20)]


def test_a_users_own_data_may_be_linked_and_has_to_be_regular(tmp_path):
    (tmp_path / "a.png").write_bytes(b"image")
    (tmp_path / "link.png").symlink_to("a.png")
    with open_regular(tmp_path / "link.png") as file:
        assert file.read() == b"image"
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "zero.png").symlink_to("/dev/zero")
    for name in ("pipe.png", "zero.png"):
        with pytest.raises(ConfigError, match=f"{name} is not a file"):
            open_regular(tmp_path / name)


def test_a_file_that_may_not_be_read_is_told_and_a_missing_one_is_missing(tmp_path, monkeypatch):
    (tmp_path / "a.json").write_text("{}")
    with pytest.raises(FileNotFoundError):
        read_inside(tmp_path, tmp_path / "b.json")
    refuse = Mock(side_effect=PermissionError(13, "Permission denied"))
    monkeypatch.setattr("builtins.open", refuse)  # root may read whatever the mode
    for read in (lambda path: read_inside(tmp_path, path), read_regular):
        with pytest.raises(ConfigError, match=r"a\.json cannot be read: Permission denied"):
            read(tmp_path / "a.json")


def test_a_file_of_the_users_is_bounded_and_its_name_may_be_anything(tmp_path):
    (tmp_path / "a").write_bytes(b"12345")
    assert read_regular(tmp_path / "a", 5) == b"12345"
    with pytest.raises(ConfigError, match="has more than 4 bytes"):
        read_regular(tmp_path / "a", 4)
    with pytest.raises(ConfigError, match=r"cannot be read: .*embedded null"):
        read_regular(tmp_path / "a\0b")
