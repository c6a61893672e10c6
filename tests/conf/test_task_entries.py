"""Every task entry names a task and writes all that can be set, so that all can be overridden."""

from pathlib import Path

import pytest
from omegaconf import OmegaConf

from bench.tasks.base import build_task, task_names, task_settings

FOLDER = Path(__file__).parents[2] / "conf" / "task"
ENTRIES = sorted(path.stem for path in FOLDER.glob("*.yaml"))


def read(entry):
    return OmegaConf.to_container(OmegaConf.load(FOLDER / f"{entry}.yaml"))


def test_every_task_has_an_entry_under_its_own_name():
    from_package = {name for name in task_names() if (FOLDER / f"{name}.yaml").exists()}
    assert {"digits", "recall"} <= from_package


@pytest.mark.parametrize("entry", ENTRIES)
def test_the_only_top_key_is_the_file_name(entry):
    assert list(read(entry)) == [entry]


@pytest.mark.parametrize("entry", ENTRIES)
def test_an_entry_writes_every_setting_of_its_task(entry):
    settings = read(entry)[entry]
    task = settings.pop("task")
    assert list(settings) == list(task_settings(task))


@pytest.mark.parametrize("entry", sorted(set(ENTRIES) & set(task_names())))
def test_an_entry_named_like_its_task_writes_the_defaults(entry):
    settings = read(entry)[entry]
    assert settings.pop("task") == entry
    defaults = task_settings(entry)
    assert settings == defaults
    # 3 and 3.0 are equal, but not the same text in a cell.
    assert {k: type(v) for k, v in settings.items()} == {k: type(v) for k, v in defaults.items()}


def test_recall_causal_is_recall_with_one_setting_changed():
    assert read("recall_causal")["recall_causal"] == read("recall")["recall"] | {"causal": True}


@pytest.mark.parametrize("entry", ENTRIES)
def test_an_entry_can_be_built(entry):
    settings = read(entry)[entry]
    task = build_task(settings.pop("task"), settings)
    assert task.seq_len > 0 and task.num_classes > 0
