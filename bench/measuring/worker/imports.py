"""Import plugins one by one, and detect changes to state that all members of a process share.

A change is undone, so that other members can be timed, and reported: each entry that such a plugin
registers ends as an ``error`` that names the change.
"""

from __future__ import annotations

import importlib
import pkgutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from bench.core.record import Status
from bench.measuring.worker.outcome import JobFailed
from bench.measuring.worker.request import Request

_changed: dict[str, str] = {}
"""Name of a mechanism or a task -> reason that names what its import has changed."""

_PLANNING = ("build", "estimate")
"""Jobs that time nothing; a change is reported by the trials of their cells."""


def import_installed() -> None:
    """Import our mechanisms, then installed packages with others or with tasks, and note changes.

    A package that cannot be imported is left to the registry to report.
    """
    from attentions import attention_names, catalogue, plugins
    from bench.measuring.measure import attributes
    from bench.measuring.plugins import leave_out_fatal
    from bench.measuring.tasks.base import GROUP, task_names

    for home in catalogue.HOMES:
        package = importlib.import_module(f"attentions.{home}")
        for module in pkgutil.iter_modules(package.__path__):
            importlib.import_module(f"{package.__name__}.{module.name}")
    attributes.watch_loaded()
    leave_out_fatal()
    tasks = plugins.installed(GROUP)
    for point in (*plugins.installed(), *tasks):
        if point.value in plugins.LEFT_OUT:
            continue
        try:
            with _noting_changes(point.module):
                importlib.import_module(point.module)
        except BaseException:  # SIGINT is ignored here: the package itself raised this
            continue
    # Those that failed are imported once more here.
    with suppress(JobFailed), _noting_changes("installed packages"):
        attention_names()
        if tasks:
            task_names()


def import_plugins(names: Sequence[str]) -> None:
    """Import modules, and note what they change for others.

    Raises:
        JobFailed: one has changed what cannot be put back, or has left a thread computing, which
            would slow down all members.
    """
    for name in names:
        with _noting_changes(name):
            importlib.import_module(name)


@contextmanager
def _noting_changes(name: str) -> Iterator[None]:
    """Compare shared state before and after the import of a module; note and undo changes."""
    from bench.measuring.measure import attributes, state

    known, before, threads = _registered(), state.snapshot(), state.live_threads()
    try:
        yield
    finally:
        told = state.differences(before, state.snapshot())
        state.restore(before)
        if stays := state.differences(before, state.snapshot()):
            reason = f"the import of {name} changed {stays}, which cannot be put back"
            raise JobFailed(Status.ERROR, reason)
        if state.live_threads() - threads and state.computes_meanwhile():
            reason = f"the import of {name} left a thread running that computes"
            raise JobFailed(Status.ERROR, reason)
        if told:
            words = f"the import of {name} changed {told}, which all that are timed share"
            _changed.update(dict.fromkeys(_registered() - known, words))
        attributes.watch_loaded()


def _registered() -> set[str]:
    """Names of all registered mechanisms and of tasks that are not ours, if these are loaded.

    Our mechanisms are loaded before all plugins, but our tasks may be loaded by one.
    """
    attentions: Any = sys.modules.get("attentions.registry")
    tasks: Any = sys.modules.get("bench.measuring.tasks.base")
    things = (attentions._REGISTRY if attentions else {}) | (tasks.TASKS.entered if tasks else {})
    return {
        name
        for name, thing in things.items()
        if not getattr(thing, "__module__", "").startswith("bench.")
    }


def refuse_changed(request: Request) -> None:
    """Fail a job with a member whose plugin has changed shared state on import.

    Raises:
        JobFailed: names the change.
    """
    if request["job"] in _PLANNING:
        return
    cells = [request.get("cell"), request.get("current"), *request.get("cells", ())]
    for cell in filter(None, cells):
        for name in (cell.get("mechanism"), cell.get("task")):
            if name in _changed:
                raise JobFailed(Status.ERROR, _changed[name])
