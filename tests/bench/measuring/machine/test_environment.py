"""A number is stale once any file that its mechanism is made of has changed."""

import subprocess
import sys
from dataclasses import fields, replace
from importlib.machinery import EXTENSION_SUFFIXES
from types import SimpleNamespace

import pytest

from bench.core.cell import TaskWorkload
from bench.core.record import Quality
from bench.core.sources import closure, hash_closure
from bench.measuring.device import cpu
from bench.measuring.machine import environment
from bench.measuring.machine.environment import (
    _data_hash,
    is_good,
    kind_of_machine,
    source_of_training,
)
from bench.measuring.tasks import base
from tests import records as made


def files_of(monkeypatch, *paths):
    """Has every task read these files."""
    monkeypatch.setattr(base, "task_to_plan", lambda *_: SimpleNamespace(files=lambda: paths))
    return _data_hash(TaskWorkload(label="a", task="recall", settings={}, seed=0))


def test_an_image_that_is_moved_to_another_class_or_split_is_another_task(tmp_path, monkeypatch):
    names = ("train/cat/1", "train/cat/2", "train/dog/3", "test/dog/4")
    moved = ("train/cat/1", "train/dog/2", "train/dog/3", "test/dog/4")
    other = ("train/cat/1", "train/cat/2", "test/dog/3", "test/dog/4")
    for number, name in enumerate([*names, *moved, *other]):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(str(number % 4))
    found = [files_of(monkeypatch, *map(tmp_path.joinpath, some)) for some in (names, moved, other)]
    assert len({*found}) == 3
    assert files_of(monkeypatch) == ""


def test_an_edit_makes_stale_what_is_made_of_it_and_nothing_else():
    made_of = {
        name: {
            f"{file.parent.name}/{file.name}" for file in closure(f"attentions.mechanisms.{name}")
        }
        for name in ("softmax", "nala", "head_decay")
    }
    assert "recurrences/decay.py" in made_of["head_decay"]
    assert "recurrences/decay.py" not in made_of["softmax"] | made_of["nala"]
    assert "kernel/tiles.py" in made_of["nala"]
    assert "kernel/tiles.py" not in made_of["softmax"] | made_of["head_decay"]
    assert "mechanisms/nala.py" in made_of["nala"]
    assert "mechanisms/nala.py" not in made_of["softmax"] | made_of["head_decay"]


EPYC = {"model name": "AMD EPYC", "cpu family": "25", "model": "17"}
NUMBERED = EPYC | {"model name": "X 9"}


@pytest.mark.parametrize(
    ("told", "vectors", "name"),
    [
        (NUMBERED, "AVX512", "X 9"),
        (NUMBERED, "AVX2", "X 9 (AVX2)"),
        (EPYC, "AVX512", "AMD EPYC family 25 model 17"),
        ({"model name": "Virtual", "cpu family": "25"}, "AVX512", "Virtual"),
        ({}, "AVX512", "Arm"),
    ],
)
def test_processors_of_one_name_are_told_apart(monkeypatch, told, vectors, name):
    monkeypatch.setattr(cpu, "_cpu_info", lambda: told)
    monkeypatch.setattr(cpu.platform, "processor", lambda: "Arm")
    monkeypatch.setattr(cpu, "vector_instructions", lambda: vectors)
    here = environment.current(("cpu",), "retain", {})
    assert here.processor == here.devices["cpu"] == name


PLUGIN = """
from attentions import Attention, Capabilities, register_attention


@register_attention("{name}", title="-", source="-", capabilities=Capabilities())
class Foreign(Attention):
    def forward(self, q, k, v):
        return {output}

    def flops(self, shape):
        return 0
"""
HERE = environment.Environment(
    **{
        name: value
        for name, value in made.ENVIRONMENT.items()
        if name in {f.name for f in fields(environment.Environment)}
    }
)
THERE = replace(HERE, processor="Another 7000", devices={"cpu": "Another 7000"})


def ran(cell, at=HERE, **result):
    """A record of a cell as it is measured now, there."""
    values = {"accuracy": 0.9, "chance": 0.1, "guess": "any", "num_examples": 9}
    quality = Quality(**(values | {"num_parameters": 1} | result))
    observed = quality if cell.is_task else made.speed([1.0])
    facts = {"freshness": environment.freshness(cell, at), "environment": at.to_dict()}
    return made.ok_record(cell, observed, **facts)


def test_a_trained_score_is_good_on_another_processor_and_a_timing_is_not():
    task, timing = made.task_cell(), made.kernel_cell()
    assert is_good(ran(task), task, HERE) and is_good(ran(timing), timing, HERE)
    assert is_good(ran(task), task, THERE)
    assert not is_good(ran(timing), timing, THERE)
    old = replace(ran(task), freshness="0" * 16)  # from before a run had a version of its own
    assert is_good(old, task, THERE)
    other = made.task_cell(seed=1)
    assert not is_good(ran(task), other, HERE)


ELSEWHERE = {
    "torch": {"versions": HERE.versions | {"torch": "9"}},
    "device": {"devices": {"cpu": "Another"}},
    "processor": {"processor": "Another"},
    "allocator": {"allocator": "default"},
}


@pytest.mark.parametrize("what", ELSEWHERE)
def test_a_timing_and_a_checkpoint_are_of_one_torch_device_processor_and_allocator(what):
    elsewhere = replace(HERE, **ELSEWHERE[what])
    timing, task = made.kernel_cell(), made.task_cell()
    assert not is_good(ran(timing), timing, elsewhere)
    assert kind_of_machine("cpu", elsewhere) != kind_of_machine("cpu", HERE)
    assert source_of_training(task, elsewhere) != source_of_training(task, HERE)


def test_a_checkpoint_is_of_the_sources_of_all_layers_of_the_data_and_of_one_version(monkeypatch):
    cell = made.task_cell(hyperparameters={"layers": [["softmax", {}], ["linear", {}]]})
    before, source = source_of_training(cell, HERE), environment.mechanism_source
    for name, other in {
        "mechanism_source": lambda name, plugins: "" if name == "linear" else source(name, plugins),
        "task_source": lambda name: "rewritten",
        "_data_hash": lambda workload: "replaced",
        "TRAINING_VERSION": -1,
    }.items():
        with monkeypatch.context() as patch:
            patch.setattr(environment, name, other)
            assert source_of_training(cell, HERE) != before, name
    monkeypatch.setattr(environment, "hash_closure", lambda module: f"{module} ")
    own = "bench.measuring.tasks.recall bench.measuring.tasks.train "
    assert environment.task_source.__wrapped__("recall") == own


def test_a_timing_of_a_model_is_of_one_source_of_the_model_and_one_timm(monkeypatch):
    cell = made.model_cell("nala")
    before = environment.freshness(cell, HERE)
    versions = HERE.versions | {"timm": "9"}
    assert environment.freshness(cell, replace(HERE, versions=versions)) != before
    monkeypatch.setattr(environment, "model_source", lambda name: "rewritten")
    assert environment.freshness(cell, HERE) != before


def test_a_timing_is_good_for_one_method_and_whatever_the_commit(monkeypatch):
    timing = made.kernel_cell()
    record = ran(timing)
    assert is_good(record, timing, replace(HERE, commit="f" * 40, is_dirty=True, num_cores=99))
    monkeypatch.setattr(environment, "METHOD_VERSION", 1 + environment.METHOD_VERSION)
    assert not is_good(record, timing, HERE)


def test_a_trained_score_of_another_training_version_is_not_good(monkeypatch):
    task = made.task_cell()
    record = ran(task)
    monkeypatch.setattr(environment, "TRAINING_VERSION", 1 + environment.TRAINING_VERSION)
    assert not is_good(record, task, HERE)
    assert is_good(replace(ran(task), training_version=environment.TRAINING_VERSION), task, HERE)


@pytest.mark.parametrize(
    ("ended", "last", "is_kept"),
    [
        ("plateau", 0.1, False),
        ("plateau", 0.25, False),
        ("plateau", 0.5, True),
        ("maximum", 0.1, True),
        ("", 0.1, True),
    ],
)
def test_an_old_run_that_a_plateau_ended_at_a_level_is_not_good(ended, last, is_kept):
    task = made.task_cell()
    curve = {"validation": (last,), "validation_steps": (9,), "plateaus": {"one of four": 0.25}}
    old = replace(ran(task, ended=ended, **curve), freshness="0" * 16)
    assert is_good(old, task, HERE) == is_kept
    control = made.task_cell("none")  # which can do no better
    old = replace(ran(control, ended=ended, **curve), freshness="0" * 16)
    assert is_good(old, control, HERE)


@pytest.fixture
def plugin(tmp_path, monkeypatch, own_registry):
    """``plugin(output)`` writes a mechanism of another package anew; returns a cell that trains."""
    monkeypatch.syspath_prepend(str(tmp_path))
    name = "foreign_for_one_test"

    def write(output):
        (tmp_path / f"{name}.py").write_text(PLUGIN.format(name=name, output=output))
        for function in (environment.is_foreign, environment.mechanism_source):
            function.cache_clear()
        return made.task_cell(name, plugins=(name,))

    yield write
    sys.modules.pop(name, None)
    for function in (environment.is_foreign, environment.mechanism_source):
        function.cache_clear()


def test_a_trained_score_of_a_plugin_is_good_until_its_source_changes(plugin):
    cell = plugin("v")
    record = ran(cell)
    assert is_good(record, cell, THERE)
    plugin("q")
    assert not is_good(record, cell, HERE)
    plugin("v")
    assert is_good(record, cell, HERE)


def test_a_mechanism_of_the_library_may_be_rewritten_without_training_again(monkeypatch):
    task, timing = made.task_cell("nala"), made.kernel_cell("nala")
    records = ran(task), ran(timing)
    monkeypatch.setattr(environment, "mechanism_source", lambda name, plugins: "another")
    assert is_good(records[0], task, HERE)
    assert not is_good(records[1], timing, HERE)


def test_a_trained_score_on_a_file_is_good_until_the_file_changes(tmp_path):
    text = tmp_path / "text"
    text.write_bytes(b"a" * 8000)
    cell = made.task_cell(task="bytes", settings={"root": str(text), "context_len": 512})
    record = ran(cell, unit="bits per byte")
    assert is_good(record, cell, THERE)
    text.write_bytes(b"b" * 8000)
    assert not is_good(record, cell, HERE)


def test_a_plugin_may_be_in_any_encoding_and_bring_compiled_code_and_files_of_other_pythons(
    tmp_path, monkeypatch
):
    package = tmp_path / "foreign_parts"
    package.mkdir()
    (package / "__init__.py").write_text("from . import _fast, _old, latin\n")
    (package / "latin.py").write_bytes(b"# -*- coding: latin-1 -*-\nNAME = 'caf\xe9'\n")
    (package / "_old.py").write_text("print 'of another Python'\n")
    (package / f"_fast{EXTENSION_SUFFIXES[0]}").write_bytes(b"\x7fELF\xff")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, package.name, raising=False)
    assert len(closure("foreign_parts")) == 4
    before = hash_closure("foreign_parts")
    (package / f"_fast{EXTENSION_SUFFIXES[0]}").write_bytes(b"\x7fELF\xfe")
    assert hash_closure("foreign_parts") != before


def test_a_commit_is_that_of_this_projects_checkout_and_dirty_by_its_tracked_files(tmp_path):
    def git(*words):
        who = ("-c", "user.name=a", "-c", "user.email=a@b")
        subprocess.run(["git", "-C", str(tmp_path), *who, *words], check=True, capture_output=True)

    assert environment._git(tmp_path) == (None, None)
    git("init")
    git("commit", "--allow-empty", "-m", "somebody else's project")
    file = tmp_path / "bench/measuring/machine/environment.py"
    file.parent.mkdir(parents=True)
    file.write_text("1")
    assert environment._git(tmp_path) == (None, None)  # is inside it and not of it
    git("add", ".")
    git("commit", "-m", "ours")
    (tmp_path / "untracked").write_text("1")
    commit, is_dirty = environment._git(tmp_path)
    assert len(commit) == 40 and is_dirty is False
    file.write_text("2")
    assert environment._git(tmp_path) == (commit, True)
