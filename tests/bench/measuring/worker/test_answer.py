from importlib.metadata import EntryPoint

import pytest
import torch

from attentions import plugins, registry
from bench.core.record import Status
from bench.measuring.device.cpu import Cpu
from bench.measuring.measure import state
from bench.measuring.oracle.oracle import Incorrect
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


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(3), GeneratorExit()])
def test_what_ends_a_process_elsewhere_ends_only_the_job(job, error):
    job(error)
    outcome = answer(REQUEST, None)
    assert outcome.status is Status.ERROR
    assert outcome.reason.startswith(type(error).__name__)


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


def test_a_plugin_whose_import_leaves_a_thread_computing_fails_its_job(monkeypatch, plugin):
    looks = iter([{"1"}, {"1", "2"}])
    monkeypatch.setattr(state, "live_threads", lambda: next(looks))
    monkeypatch.setattr(state, "computes_meanwhile", lambda: True)
    outcome = answer(REQUEST | {"plugins": [plugin("starts_a_thread", "")]}, None)
    assert outcome.status is Status.ERROR
    assert outcome.reason == "the import of starts_a_thread left a thread running that computes"
