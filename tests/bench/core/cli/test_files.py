import errno
import os
from unittest.mock import Mock

import pytest

from bench.core.cli.errors import ConfigError
from bench.core.cli.files import write_whole


def test_a_file_is_replaced_whole_and_folders_are_made(tmp_path):
    path = tmp_path / "a" / "b.txt"
    assert write_whole(path, "one\r\n") == path
    write_whole(path, "zwei ü\r\n")
    assert path.read_bytes() == "zwei ü\r\n".encode()
    assert [p.name for p in path.parent.iterdir()] == ["b.txt"]


def test_a_write_that_fails_leaves_the_old_file_and_no_litter(tmp_path, monkeypatch):
    path = write_whole(tmp_path / "a.txt", "old")
    monkeypatch.setattr(os, "replace", Mock(side_effect=OSError(28, "No space left on device")))
    with pytest.raises(ConfigError, match=r"a\.txt cannot be written: No space left"):
        write_whole(path, "new")
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_a_write_stays_below_its_root_which_may_be_a_link_itself(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out").symlink_to("elsewhere")
    out = tmp_path / "out"
    write_whole(out / "table.csv", "x", inside=out)
    assert (tmp_path / "elsewhere" / "table.csv").read_text() == "x"
    (tmp_path / "third").mkdir()
    (out / "charts").symlink_to(tmp_path / "third")
    for path in (out / "charts" / "deeper" / "a.svg", out / ".." / "a.svg"):
        with pytest.raises(ConfigError, match="leads out of"):
            write_whole(path, "x", inside=out)
    assert list((tmp_path / "third").iterdir()) == []


def test_the_umask_says_who_may_read_and_what_was_private_stays_so(tmp_path):
    before = os.umask(0o022)
    path = write_whole(tmp_path / "a.txt", "x")
    os.umask(before)
    assert path.stat().st_mode & 0o777 == 0o644
    path.chmod(0o600)
    assert write_whole(path, "y").stat().st_mode & 0o777 == 0o600


def test_it_is_on_the_disk_before_it_has_its_name_unless_it_can_be_made_again(
    tmp_path, monkeypatch
):
    done = []
    for name in ("fsync", "replace"):
        own = getattr(os, name)

        def noted(*args, _own=own, _name=name, **more):
            done.append(_name)
            _own(*args, **more)

        monkeypatch.setattr(os, name, noted)
    write_whole(tmp_path / "a.txt", "x")
    assert done == ["fsync", "replace", "fsync"]
    done.clear()
    write_whole(tmp_path / "b.txt", "x", is_derived=True)
    assert done == ["replace"]


@pytest.mark.parametrize(
    ("error", "has_space"), [(errno.ENOSPC, False), (errno.EDQUOT, False), (errno.EACCES, True)]
)
def test_more_space_is_asked_for_only_where_it_helps(tmp_path, monkeypatch, error, has_space):
    monkeypatch.setattr(os, "replace", Mock(side_effect=OSError(error, os.strerror(error))))
    with pytest.raises(ConfigError, match="cannot be written") as caught:
        write_whole(tmp_path / "a.txt", "x")
    assert ("Free space" in str(caught.value)) != has_space
