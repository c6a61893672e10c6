from importlib.metadata import EntryPoint

import pytest
import torch

from attentions import plugins, registry
from bench.core.record import Status
from bench.measuring.device.cpu import Cpu
from bench.measuring.measure import state
from bench.measuring.measure.state import snapshot
from bench.measuring.oracle.oracle import Incorrect
from bench.measuring.tasks import base
from bench.measuring.worker import answer as room
from bench.measuring.worker import imports
from bench.measuring.worker.answer import answer
from bench.measuring.worker.outcome import JobFailed

REQUEST = {"job": "fake", "cell": {"device": "meta"}}


@pytest.fixture
def job(monkeypatch):
    """Let the job ``fake`` raise an error."""

    def raising(error):
        def fake(request, channel):
            raise error

        monkeypatch.setitem(room.JOBS, "fake", fake)

    return raising


@pytest.mark.parametrize(
    ("error", "status", "reason"),
    [
        (Incorrect("off by 3"), Status.INCORRECT, "off by 3"),
        (JobFailed(Status.DIVERGED, "no number"), Status.DIVERGED, "no number"),
        (MemoryError(), Status.OUT_OF_MEMORY, "MemoryError"),
        (
            RuntimeError("can't allocate memory\nmore"),
            Status.OUT_OF_MEMORY,
            "can't allocate memory",
        ),
        (ValueError("seven\nlines"), Status.ERROR, "ValueError: seven"),
        (ValueError(), Status.ERROR, "ValueError: ValueError"),
    ],
)
def test_whatever_a_job_raises_becomes_a_status_with_the_first_line(job, error, status, reason):
    job(error)
    outcome = answer(REQUEST, None)
    assert (outcome.status, outcome.reason, outcome.result) == (status, reason, None)


def test_the_traceback_of_an_error_is_kept_and_a_wrong_output_needs_none(job):
    job(ValueError("no"))
    assert "in fake\n" in answer(REQUEST, None).detail
    job(Incorrect("off"))
    assert answer(REQUEST, None).detail is None


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(3), GeneratorExit()])
def test_what_ends_a_process_elsewhere_ends_only_the_job(job, error):
    job(error)
    outcome = answer(REQUEST, None)
    assert outcome.status is Status.ERROR
    assert outcome.reason.startswith(type(error).__name__)


def test_an_error_that_cannot_say_what_it_is_still_has_its_name(job):
    class Mute(Exception):
        def __str__(self):
            raise KeyError("no words")

    job(Mute())
    assert answer(REQUEST, None).reason == "Mute: Mute"


def test_a_plugin_that_went_missing_since_the_plan_is_an_error_of_the_cell():
    outcome = answer(REQUEST | {"plugins": ["no_such_module"]}, None)
    assert outcome.status is Status.ERROR
    assert outcome.reason == "ModuleNotFoundError: No module named 'no_such_module'"


def test_memory_is_limited_for_work_of_the_cpu_only(monkeypatch):
    limited = []
    monkeypatch.setattr(Cpu, "limit_memory", lambda device: limited.append(True))
    monkeypatch.setitem(room.JOBS, "fake", lambda request, channel: None)
    answer(REQUEST, None)
    assert limited == []
    answer({"job": "fake", "cells": [{"device": "cpu"}]}, None)
    assert limited == [True]


@pytest.fixture
def plugin(tmp_path, monkeypatch):
    """Write a module that does something when it is imported."""

    def write(name, text):
        (tmp_path / f"{name}.py").write_text(text)
        return name

    monkeypatch.syspath_prepend(tmp_path)
    return write


def test_what_a_plugin_sets_when_it_is_imported_is_put_back(monkeypatch, plugin):
    found = []
    monkeypatch.setitem(room.JOBS, "fake", lambda request, channel: found.append(snapshot()))
    before = snapshot()
    text = "import time, torch\ntorch.set_flush_denormal(True)\ntime.perf_counter = None\n"
    answer(REQUEST | {"plugins": [plugin("sets_something", text)]}, None)
    assert found == [before] and snapshot() == before


BRINGS = """
import torch
from attentions import Attention, Capabilities, register_attention

@register_attention("brought", title="b", source="b", capabilities=Capabilities())
class Brought(Attention):
    pass
"""


@pytest.fixture
def nothing_brought(monkeypatch):
    """Forget what the test registers, and what its imports change."""
    from attentions import attention_names

    attention_names()  # which imports all once: what is forgotten would stay away
    monkeypatch.setattr(registry, "_REGISTRY", dict(registry._REGISTRY))
    monkeypatch.setattr(imports, "_changed", {})


def answers_of(plugins, mechanisms):
    cells = [{"device": "meta", "mechanism": name} for name in mechanisms]
    return answer({"job": "fake", "cells": cells, "plugins": plugins}, None)


@pytest.mark.usefixtures("nothing_brought")
def test_a_plugin_whose_import_replaces_a_function_has_its_entries_refused(monkeypatch, plugin):
    monkeypatch.setitem(room.JOBS, "fake", lambda request, channel: None)
    original = torch.nn.functional.softplus
    text = BRINGS + "torch.nn.functional.softplus = lambda x: x\n"
    outcome = answers_of([plugin("replaces", text)], ["softmax", "brought"])
    assert outcome.status is Status.ERROR
    assert outcome.reason == (
        "the import of replaces changed torch.nn.functional.softplus, which all that are timed "
        "share"
    )
    assert torch.nn.functional.softplus is original
    assert answers_of(["replaces"], ["softmax"]).status is Status.OK
    pair = {"base": {"device": "meta"}, "current": {"device": "meta", "mechanism": "brought"}}
    assert answer({"job": "fake"} | pair, None).reason == outcome.reason
    monkeypatch.setitem(room.JOBS, "build", lambda request, channel: None)
    cells = [{"device": "meta", "mechanism": "brought"}]
    assert answer({"job": "build", "cells": cells}, None).status is Status.OK, "its trial tells"


@pytest.mark.usefixtures("nothing_brought")
def test_an_installed_plugin_that_replaces_a_method_has_its_entries_refused(monkeypatch, plugin):
    monkeypatch.setitem(room.JOBS, "fake", lambda request, channel: None)
    text = BRINGS + "torch.nn.Module.half = None\n"
    points = (EntryPoint("mine", plugin("is_installed", text), plugins.GROUP),)
    monkeypatch.setattr(plugins, "installed", lambda group=plugins.GROUP: points)
    half = torch.nn.Module.half
    imports.import_installed()
    assert torch.nn.Module.half is half
    outcome = answers_of([], ["brought"])
    assert outcome.reason.startswith("the import of is_installed changed torch.nn.modules.module.")
    assert answers_of([], ["linear"]).status is Status.OK


BRINGS_A_TASK = """
import torch
import bench.measuring.tasks.recall as ours
from bench.measuring.tasks.base import Recipe, Task, register_task

@register_task("brought_task")
class Brought(Task):
    default_recipe = Recipe()

register_task("recall")(ours.Recall)
torch.nn.Module.half = None
"""


@pytest.mark.usefixtures("nothing_brought")
def test_an_installed_task_that_replaces_a_method_is_refused_and_no_task_of_ours(
    monkeypatch, plugin
):
    monkeypatch.setattr(base.TASKS, "entered", {})
    monkeypatch.setattr(base, "task_names", lambda: ())
    points = (EntryPoint("mine", plugin("is_a_task", BRINGS_A_TASK), base.GROUP),)
    monkeypatch.setattr(
        plugins, "installed", lambda group=plugins.GROUP: points if group == base.GROUP else ()
    )
    half = torch.nn.Module.half
    imports.import_installed()
    assert torch.nn.Module.half is half
    assert {*imports._changed} == {"brought_task"}
    monkeypatch.setitem(room.JOBS, "fake", lambda request, channel: None)
    for task, is_ok in (("brought_task", False), ("recall", True)):
        assert (
            answer({"job": "fake", "cell": {"device": "meta", "task": task}}, None).is_ok == is_ok
        )


def test_a_plugin_whose_import_leaves_a_thread_computing_fails_its_job(monkeypatch, plugin):
    looks = iter([{"1"}, {"1", "2"}])
    monkeypatch.setattr(state, "live_threads", lambda: next(looks))
    monkeypatch.setattr(state, "computes_meanwhile", lambda: True)
    outcome = answer(REQUEST | {"plugins": [plugin("starts_a_thread", "")]}, None)
    assert outcome.status is Status.ERROR
    assert outcome.reason == "the import of starts_a_thread left a thread running that computes"


@pytest.mark.usefixtures("nothing_brought")
def test_a_plugin_whose_import_changes_what_stays_changed_fails_its_job(monkeypatch, plugin):
    monkeypatch.setattr(state, "restore", lambda values: None)
    text = BRINGS + "torch.set_grad_enabled(False)\n"
    try:
        outcome = answers_of([plugin("stays", text)], ["softmax"])
    finally:
        torch.set_grad_enabled(True)
    told = "the import of stays changed the grad mode from True to False, which cannot be put back"
    assert (outcome.status, outcome.reason) == (Status.ERROR, told)


@pytest.mark.usefixtures("nothing_brought")
@pytest.mark.parametrize("error", ["ImportError('a part is missing')", "SystemExit(3)", "Own()"])
def test_what_an_installed_plugin_changes_before_it_fails_is_put_back(monkeypatch, plugin, error):
    text = f"import torch\nclass Own(BaseException): ...\ntorch.matmul = None\nraise {error}\n"
    points = (EntryPoint("mine", plugin("fails", text), plugins.GROUP),)
    monkeypatch.setattr(plugins, "installed", lambda group=plugins.GROUP: points)
    registry._import_all.cache_clear()  # as in a new process, which imports it twice
    matmul = torch.matmul
    with pytest.warns(RuntimeWarning, match="'mine' .* is left out: "):
        imports.import_installed()
    assert torch.matmul is matmul
    registry._import_all.cache_clear()
