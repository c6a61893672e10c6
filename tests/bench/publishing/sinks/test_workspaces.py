"""Workspaces and reports as they would be sent, beside those of last time.

After a change that is meant: ``python -m tests.bench.publishing.sinks.test_workspaces`` stores
them.
"""

import importlib.util
import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bench.core.cli.errors import ConfigError
from bench.publishing.sinks import make_for, workspaces
from bench.publishing.sinks.view import view_of
from tests import records as made
from tests.bench.publishing.sweeps import config, small_sweep

SNAPSHOTS = Path(__file__).parent / "snapshots"
SENTENCES = ("At 1,024 tokens nala is fastest.",)
KINDS = ("workspace", "report")

pytestmark = pytest.mark.usefixtures("nobody_at_home")


def asking(out, kind, **changes):
    return config(out, **({"make": kind} | changes))


def model_of(kind, entity="me"):
    """The JSON that would be sent, without the ids that are drawn anew each time."""
    wanted = asking(Path(), kind)
    views = [view_of(small_sweep(), made.SWEEP, wanted)]
    built = workspaces.build(views, SENTENCES, wanted, entity)
    model = built._to_model().model_dump(mode="json", by_alias=True, exclude_none=True)
    plain: dict[str, Any] = without_ids(model)
    return plain


def without_ids(value):
    if isinstance(value, dict):
        drawn = ("__id__", "id", "ref", "refId")
        return {name: without_ids(one) for name, one in value.items() if name not in drawn}
    return [without_ids(one) for one in value] if isinstance(value, list) else value


@pytest.mark.parametrize("kind", KINDS)
def test_what_would_be_sent_is_what_it_was(kind):
    pytest.importorskip("wandb_workspaces")
    stored = json.loads((SNAPSHOTS / f"{kind}.json").read_text())
    assert model_of(kind) == stored


@pytest.mark.parametrize("kind", KINDS)
def test_without_a_key_the_json_is_written_and_how_to_send_it_is_said(tmp_path, kind):
    pytest.importorskip("wandb_workspaces")
    file, notes = make_for(small_sweep(), asking(tmp_path, kind, mode=None))
    assert file == tmp_path / "wandb" / f"{kind}.json"
    assert "latency_s/float32 forward/nala" in file.read_text()
    (note,) = notes
    assert f"wandb.make={kind} wandb.mode=online out={tmp_path}" in note


def test_a_missing_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install attnbench\[workspaces\]"):
        make_for(small_sweep(), asking(tmp_path, "report"))


def test_a_key_without_a_default_entity_is_said(tmp_path, monkeypatch):
    pytest.importorskip("wandb_workspaces")
    wandb = pytest.importorskip("wandb")
    monkeypatch.setattr(workspaces, "choose_mode", lambda asked: ("online", []))
    monkeypatch.setattr(wandb, "Api", lambda: SimpleNamespace(default_entity=None))
    _, notes = make_for(small_sweep(), asking(tmp_path, "report", mode="online"))
    assert "the key has no default entity; say wandb.entity=NAME" in notes[0]


if __name__ == "__main__":
    for one in KINDS:
        text = json.dumps(model_of(one), indent=1, sort_keys=True)
        (SNAPSHOTS / f"{one}.json").write_text(text + "\n")
        print(f"Stored {one}", file=sys.stderr)
