"""Every task entry names a task and writes all that can be set, so that all can be overridden."""

from pathlib import Path

from omegaconf import OmegaConf

from bench.measuring.tasks.base import build_task, task_names, task_settings

FOLDER = Path(__file__).parents[2] / "conf" / "task"
ENTRIES = sorted(path.stem for path in FOLDER.glob("*.yaml"))


def read(entry):
    return OmegaConf.to_container(OmegaConf.load(FOLDER / f"{entry}.yaml"))


def test_every_task_has_an_entry_under_its_own_name():
    from_package = {name for name in task_names() if (FOLDER / f"{name}.yaml").exists()}
    assert {"digits", "recall"} <= from_package


def test_an_entry_writes_every_setting_of_its_task():
    for entry in ENTRIES:
        settings = read(entry)[entry]
        assert settings.keys() == {"task", *task_settings(settings["task"])}, entry


def test_an_entry_named_like_its_task_writes_the_defaults_or_what_replaced_them():
    replaced = {
        ("word_problem", "scored"): ("all", "last_quarter"),
        ("bytes", "head_norm"): (False, True),
    }
    for entry in sorted(set(ENTRIES) & set(task_names())):
        settings = read(entry)[entry]
        assert settings.pop("task") == entry
        # 3 and 3.0 are equal, but not the same text in a cell.
        written = {key: (type(value), value) for key, value in settings.items()}
        defaults = task_settings(entry)
        for name in [name for of, name in replaced if of == entry]:
            assert (defaults.pop(name), written.pop(name)[1]) == replaced[entry, name]
        assert written == {key: (type(value), value) for key, value in defaults.items()}, entry


def test_recall_causal_is_recall_with_the_past_alone_and_a_norm_over_heads():
    changed = {"causal": True, "head_norm": True}
    assert read("recall_causal")["recall_causal"] == read("recall")["recall"] | changed


def test_an_entry_can_be_built():
    for entry in ENTRIES:
        settings = read(entry)[entry]
        task = build_task(settings.pop("task"), settings)
        assert task.seq_len > 0 and task.num_classes > 0, entry
