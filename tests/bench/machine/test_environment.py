"""What makes a number stale: every file that a mechanism is made of."""

import sys
from dataclasses import replace

import pytest

from bench.cell import TaskWorkload
from bench.machine import environment
from bench.machine.environment import _closure, _data_hash, _hash_closure
from bench.record import Record
from tests import records as made


@pytest.mark.parametrize(
    "line",
    [
        "from ._two import f",
        "from . import _two",
        "from . import _one, _two as other",
        "from . import (\n    _two,\n    _one,\n)",
    ],
)
def test_a_change_in_an_imported_file_is_a_change_of_the_mechanism(line, tmp_path, monkeypatch):
    package = tmp_path / "foreign_kernels"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "core.py").write_text(f"{line}\n")
    (package / "_two.py").write_text("f = 1\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, package.name, raising=False)  # of the case before
    before = _hash_closure("foreign_kernels.core")
    (package / "_two.py").write_text("f = 2\n")
    assert _hash_closure("foreign_kernels.core") != before


def test_another_text_under_the_same_name_is_another_task(tmp_path):
    def data_hash(task, **settings):
        return _data_hash(TaskWorkload(label=task, task=task, settings=settings, seed=0))

    text = tmp_path / "text"
    text.write_bytes(b"a" * 2000)
    before = data_hash("bytes", root=str(text))
    text.write_bytes(b"b" * 2000)
    assert data_hash("bytes", root=str(text)) != before != ""
    assert data_hash("recall") == data_hash("cifar10") == ""


def test_an_edit_makes_stale_what_is_made_of_it_and_nothing_else():
    made_of = {
        name: {
            f"{file.parent.name}/{file.name}" for file in _closure(f"attentions.mechanisms.{name}")
        }
        for name in ("softmax", "nala", "retnet")
    }
    assert "maths/decay.py" in made_of["retnet"]
    assert "maths/decay.py" not in made_of["softmax"] | made_of["nala"]
    assert "kernel/tiles.py" in made_of["nala"]
    assert "kernel/tiles.py" not in made_of["softmax"] | made_of["retnet"]
    assert "mechanisms/nala.py" in made_of["nala"]
    assert "mechanisms/nala.py" not in made_of["softmax"] | made_of["retnet"]


EPYC = {"model name": "AMD EPYC", "cpu family": "25", "model": "17"}
NUMBERED = EPYC | {"model name": "X 9"}


@pytest.mark.parametrize(
    ("told", "vectors", "name"),
    [
        (NUMBERED, "AVX512", "X 9"),
        (NUMBERED, "AVX2", "X 9 (AVX2)"),
        (NUMBERED, "DEFAULT", "X 9"),
        (EPYC, "AVX512", "AMD EPYC family 25 model 17"),
        (EPYC | {"cpu family": "26"}, "AVX512", "AMD EPYC family 26 model 17"),
        (EPYC, "AVX2", "AMD EPYC family 25 model 17 (AVX2)"),
        ({"model name": "Virtual"}, "AVX512", "Virtual"),
        ({}, "AVX512", "Arm"),
    ],
)
def test_processors_of_one_name_are_told_apart(monkeypatch, told, vectors, name):
    monkeypatch.setattr(environment, "_cpu_info", lambda: told)
    monkeypatch.setattr(environment.platform, "processor", lambda: "Arm")
    monkeypatch.setattr("bench.machine.hardware.vector_instructions", lambda: vectors)
    here = environment.current(("cpu",), "retain", {})
    assert here.processor == here.devices["cpu"] == name


def test_the_system_tells_of_its_first_processor(monkeypatch):
    text = "processor\t: 0\nmodel name\t: A B\n\nprocessor\t: 1\nmodel name\t: C\n\n"
    monkeypatch.setattr(environment.Path, "read_text", lambda path: text)
    assert environment._cpu_info() == {"processor": "0", "model name": "A B"}


def test_whatever_a_system_calls_itself_can_be_kept_in_a_record(monkeypatch):
    monkeypatch.setattr(environment, "_processor", lambda: "Rude\x1b[2J\ud800 9000\0")
    monkeypatch.setattr(environment, "_device_name", lambda name: "\x07")
    facts = environment.current(("cpu",), "retain", {}).to_dict()
    assert facts["processor"] == "Rude\\x1b[2J\\ud800 9000\\x00"
    record = replace(made.block_records(["nala"], num_rounds=3)[0], environment=facts)
    assert Record.from_json(record.to_json()) == record
