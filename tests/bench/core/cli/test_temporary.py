"""Temporary folders are this user's alone, whoever makes a folder of their name first."""

import os
import tempfile
from pathlib import Path

import pytest

from bench.core.cli.errors import ConfigError
from bench.core.cli.temporary import (
    WORKERS_FOLDER,
    WORKERS_PREFIX,
    new_workers_folder,
    shared_folder,
    workers_folder,
)


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    """The temporary folder, on a host without folders of the session."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    monkeypatch.delenv(WORKERS_FOLDER, raising=False)
    return tmp_path


def mode(path):
    return path.stat().st_mode & 0o777


def test_the_workers_folder_cannot_be_guessed_and_is_private(place):
    one, other = new_workers_folder(), new_workers_folder()
    assert one != other and one.parent == place and one.name.startswith(WORKERS_PREFIX)
    assert len(one.name) >= len(f"{WORKERS_PREFIX}{os.getpid()}-") + 8 and mode(one) == 0o700


def test_workers_take_the_folder_that_they_are_handed(place, monkeypatch):
    monkeypatch.setenv(WORKERS_FOLDER, str(place / "given"))
    workers_folder.cache_clear()
    assert workers_folder() == place / "given"
    monkeypatch.delenv(WORKERS_FOLDER)
    assert workers_folder() == place / "given", "whatever a plugin does to its environment"
    workers_folder.cache_clear()
    assert workers_folder().name.startswith(WORKERS_PREFIX)
    workers_folder.cache_clear()


def test_a_shared_folder_is_the_same_for_all_processes_of_a_user(place):
    folder = shared_folder("ours")
    assert folder == shared_folder("ours") == place / f"ours-{os.getuid()}"
    assert mode(folder) == 0o700


def linked(path):
    path.with_name("elsewhere").mkdir(mode=0o700)
    path.symlink_to("elsewhere")


def open_to_the_group(path):
    path.mkdir()
    path.chmod(0o770)


@pytest.mark.parametrize("put", [linked, open_to_the_group, Path.touch])
def test_a_folder_that_others_may_have_made_is_refused(place, put):
    put(place / f"ours-{os.getuid()}")
    with pytest.raises(ConfigError, match="is a link, belongs to another user, or can be written"):
        shared_folder("ours")
