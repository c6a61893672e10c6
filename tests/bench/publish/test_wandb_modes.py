"""Whether a run goes to a server, to the disk or nowhere, and what is said where it fails."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bench.publish import wandb as door
from bench.publish.config import WandbConfig
from tests.bench.publish.sweeps import config, small_sweep

pytestmark = pytest.mark.usefixtures("nobody_at_home")


@pytest.mark.parametrize("where", ["config", "environment"])
def test_disabled_writes_nothing_and_does_not_import_wandb(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)  # an import would raise
    if where == "environment":
        monkeypatch.setenv("WANDB_MODE", "disabled")
    mode = "disabled" if where == "config" else None
    assert door.publish_wandb(small_sweep(), config(tmp_path, mode=mode)) == ([], [])
    assert list(tmp_path.iterdir()) == [tmp_path / "home"]


@pytest.mark.parametrize(
    ("asked", "environment", "ambient", "has_key", "mode"),
    [
        (None, None, "online", False, "offline"),
        (None, None, "online", True, "online"),
        (None, None, "offline", True, "offline"),
        (None, None, "disabled", True, "disabled"),
        (None, "offline", "offline", True, "offline"),
        (None, "dryrun", "online", True, "offline"),
        (None, "online", "online", True, "online"),
        (None, "online", "online", False, "offline"),
        (None, "shared", "online", False, "offline"),
        ("offline", "online", "online", True, "offline"),
        ("online", "offline", "offline", True, "online"),
        ("online", None, "online", False, "offline"),
    ],
)
def test_the_mode_is_ours_to_choose_and_online_needs_a_key(
    monkeypatch: pytest.MonkeyPatch,
    asked: str | None,
    environment: str | None,
    ambient: str,
    has_key: bool,
    mode: str,
) -> None:
    if environment:
        monkeypatch.setenv("WANDB_MODE", environment)
    settings = SimpleNamespace(mode=ambient, base_url="https://example.invalid")
    monkeypatch.setattr(door, "_ambient_settings", lambda: settings)
    monkeypatch.setattr(door, "_has_key", lambda url: has_key)
    chosen, notes = door.choose_mode(WandbConfig(mode=asked))
    assert chosen == mode
    is_refused = "online" in (asked, environment) and not has_key
    assert bool(notes) == (is_refused or environment == "shared")


class FakeWandb:
    """Raises what the real one raises, when told to."""

    class UsageError(Exception):
        pass

    def __init__(self, *failing: str) -> None:
        self.failing = failing
        self.modes: list[str] = []
        self.num_teardowns = 0

    def Settings(self, **settings: Any) -> dict[str, Any]:
        return settings

    def Table(self, **table: Any) -> dict[str, Any]:
        return table

    def teardown(self) -> None:
        self.num_teardowns += 1

    def init(self, *, mode: str, dir: str, **rest: Any) -> Any:
        self.modes.append(mode)
        if mode in self.failing:
            raise self.UsageError("No API key configured.\nUse `wandb login`.")

        def log(row: dict[str, Any]) -> None:
            if f"log {mode}" in self.failing:
                raise ConnectionError("gone")

        return SimpleNamespace(
            dir=f"{dir}/wandb/{mode}/files",
            define_metric=lambda *_, **__: None,
            log=log,
            summary={},
            finish=lambda exit_code=None: None,
        )


@pytest.mark.parametrize("failing", [("online",), ("log online",)])
def test_what_fails_online_is_written_offline_with_a_note(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: tuple[str, ...]
) -> None:
    fake = FakeWandb(*failing)
    monkeypatch.setitem(sys.modules, "wandb", fake)  # type: ignore[arg-type]
    monkeypatch.setattr(door, "choose_mode", lambda config: ("online", []))
    folders, notes = door.publish_wandb(small_sweep(), config(tmp_path, mode="online"))
    assert fake.modes == ["online", "offline"]
    assert fake.num_teardowns == 2
    assert folders == [tmp_path / "wandb" / "offline"]
    assert "could not be reached" in notes[0]
    assert "\n" not in notes[0]


def test_if_all_fails_there_is_a_note_and_no_exception(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", FakeWandb("offline"))  # type: ignore[arg-type]
    folders, notes = door.publish_wandb(small_sweep("a") + small_sweep("b"), config(tmp_path))
    assert folders == []
    assert notes == [
        "W&B was left out: UsageError: No API key configured. The records are unharmed."
    ]


def test_without_the_package_there_is_a_note(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    folders, notes = door.publish_wandb(small_sweep(), config(tmp_path))
    assert folders == []
    assert "W&B was left out: " in notes[0]
