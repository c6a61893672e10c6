"""Plugins, imported one by one, and what each leaves changed for all that share the process.

A change is undone, so that other members can be timed, and told: each entry that such a plugin
brings is an ``error`` with the name of what its import has changed.
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
"""Name of a mechanism or a task -> what the import that brought it has changed."""

_PLANNING = ("build", "estimate")
"""Jobs that time nothing; their cells' trials tell."""


def import_installed() -> None:
    """Import our mechanisms, then those of installed packages, looking around each of the latter.

    One that cannot be imported is left for the registry to tell.
    """
    from attentions import attention_names, catalogue, plugins
    from bench.measuring.measure import attributes

    for home in catalogue.HOMES:
        package = importlib.import_module(f"attentions.{home}")
        for module in pkgutil.iter_modules(package.__path__):
            importlib.import_module(f"{package.__name__}.{module.name}")
    attributes.watch_loaded()
    for point in plugins.installed():
        with suppress(Exception), _looking(point.module):
            importlib.import_module(point.module)
    attention_names()


def import_plugins(names: Sequence[str]) -> None:
    """Import modules.

    Raises:
        JobFailed: one has left a thread computing, which would slow down whoever is timed.
    """
    for name in names:
        with _looking(name):
            importlib.import_module(name)


@contextmanager
def _looking(name: str) -> Iterator[None]:
    """Look before and after the import of a module, and keep what it has changed."""
    from bench.measuring.measure import attributes, state

    known, before, num_threads = _registered(), state.look(), state.live_threads()
    try:
        yield
    finally:
        changes = [state.differences(before, state.look())]
        state.put_back(before)
        if state.live_threads() > num_threads:
            if state.ends_repeated_dump():
                changes.append("what faulthandler does, which dumps tracebacks")
            if state.computes_meanwhile():
                reason = f"the import of {name} left a thread running that computes"
                raise JobFailed(Status.ERROR, reason)
        if told := ", and ".join(filter(None, changes)):
            words = f"the import of {name} changed {told}, which all that are timed share"
            _changed.update(dict.fromkeys(_registered() - known, words))
        attributes.watch_loaded()


def _registered() -> set[str]:
    """Names of all mechanisms, and of tasks where these are loaded, as they are registered."""
    rooms: list[Any] = [
        sys.modules.get("attentions.registry"),
        sys.modules.get("bench.measuring.tasks.base"),
    ]
    return {name for room in rooms if room is not None for name in room._REGISTRY}


def refuse_changed(request: Request) -> None:
    """End a job with a member whose plugin has changed something on import.

    Raises:
        JobFailed: with what it was.
    """
    if request["job"] in _PLANNING:
        return
    cells = [request.get("cell"), request.get("current"), *request.get("cells", ())]
    for cell in filter(None, cells):
        for name in (cell.get("mechanism"), cell.get("task")):
            if name in _changed:
                raise JobFailed(Status.ERROR, _changed[name])
