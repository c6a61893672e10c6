"""Whether a run goes to a server, to the disk or nowhere, and what is said where it fails."""

import sys
from pathlib import Path

import pytest

from bench.publishing.sinks import publish_runs, wandb_door
from bench.publishing.sinks import wandb as sink
from tests.bench.publishing.sweeps import config, small_sweep

pytestmark = pytest.mark.usefixtures("nobody_at_home")


@pytest.mark.parametrize("where", ["config", "environment"])
def test_disabled_writes_nothing_and_does_not_import_wandb(tmp_path, monkeypatch, where):
    monkeypatch.setitem(sys.modules, "wandb", None)  # an import would raise
    if where == "environment":
        monkeypatch.setenv("WANDB_MODE", "disabled")
    mode = "disabled" if where == "config" else None
    assert publish_runs(small_sweep(), config(tmp_path, mode=mode)) == ([], [])
    assert list(tmp_path.iterdir()) == [tmp_path / "home"]


@pytest.mark.parametrize(
    ("asked", "environment", "has_key", "mode"),
    [
        (None, None, False, "offline"),
        (None, None, True, "online"),
        (None, "offline", True, "offline"),
        (None, "dryrun", True, "offline"),
        (None, "online", False, "offline"),
        ("offline", "online", True, "offline"),
        ("online", "offline", True, "online"),
        ("online", None, False, "offline"),
    ],
)
def test_the_mode_is_ours_to_choose_and_online_needs_a_key(
    monkeypatch, asked, environment, has_key, mode
):
    if environment:
        monkeypatch.setenv("WANDB_MODE", environment)
    problem = "" if has_key else "no API key is configured"
    monkeypatch.setattr(wandb_door, "why_not_online", lambda: problem)
    chosen, notes = sink.choose_mode(asked)
    assert chosen == mode
    assert bool(notes) == ("online" in (asked, environment) and not has_key)


def test_what_cannot_be_sent_is_written_and_the_rest_is_not_tried(tmp_path, monkeypatch):
    tried: list[Path] = []

    def refuse(folder):
        tried.append(folder)
        return "the server is full"

    monkeypatch.setattr(sink, "choose_mode", lambda asked: ("online", []))
    monkeypatch.setattr(sink, "send", refuse)
    records = small_sweep("a") + small_sweep("b")
    folders, notes = publish_runs(records, config(tmp_path, mode="online"))
    assert [folder.name.rpartition("-")[2] for folder in folders] == ["a", "b"]
    assert tried == folders[:1]
    (note,) = notes
    assert "did not take the run: the server is full" in note
    assert f"wandb sync {folders[0]}" in note
