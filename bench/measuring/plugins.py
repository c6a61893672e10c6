"""Import the modules named under ``plugins``, and run their mechanisms in this process."""

from __future__ import annotations

import importlib
import os
import signal
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from mmap import mmap
from multiprocessing import get_context
from pathlib import Path
from typing import NoReturn

from attentions import attention_class, attention_names
from attentions import plugins as installed_plugins
from bench.core.cli.errors import ConfigError, say_once
from bench.core.cli.foreign import foreign_code, told
from bench.core.cli.texts import LIMITS, said_by, visible

_PATIENCE_S, IMPORT_TIMEOUT_S = 5.0, 120.0
"""Seconds after which a slow import is told, and after which it counts as hanging."""
_GOES_ON, _INTERRUPTS = 1, 2


def import_plugins(plugins: tuple[str, ...]) -> None:
    """Import modules that register mechanisms or tasks of their own.

    Installed packages whose import would end this process or hang are left out from here on.

    Raises:
        ConfigError: one cannot be imported, with its name, the error and the line to mend.
    """
    leave_out_fatal()
    if plugins:
        from bench.measuring.tasks.base import (
            task_names,  # imports torch, which a list of mechanisms does not need
        )

        # Ours first, so that a plugin that reuses one of these names fails at its own line.
        attention_names()
        task_names()
    for plugin in plugins:
        if how := how_it_ends(plugin):
            raise ConfigError(f"plugins names {plugin!r}, whose import {how}. Mend the module.")
        try:
            importlib.import_module(plugin)
        except (Exception, SystemExit) as error:  # foreign code, which its author must mend
            raise ConfigError(
                f"plugins names {plugin!r}, which cannot be imported: "
                f"{told(error)}{_remedy(plugin, error)}"
            ) from error


def leave_out_fatal() -> None:
    """Leave out the installed packages whose import would end this process, or not end itself."""
    from bench.measuring.tasks.base import GROUP

    for group in (installed_plugins.GROUP, GROUP):
        for point in installed_plugins.installed(group):
            with suppress(ImportError):  # it names no module
                if how := how_it_ends(installed_plugins.module_of(point)):
                    installed_plugins.LEFT_OUT[point.value] = f"its import {how}."


def how_it_ends(module: str) -> str | None:
    """How the import of a module ends a process, in words, tried in a fork of this one.

    None if it goes on, if the module is imported already, and for errors that an import here tells.
    """
    if module in sys.modules:
        return None
    state = mmap(-1, 1)
    child = get_context("fork").Process(target=_try_in_child, args=(module, state), daemon=True)
    child.start()
    child.join(_PATIENCE_S)
    if child.is_alive():
        say_once(f"Importing the plugin {module}, for {IMPORT_TIMEOUT_S:.0f} s at most.")
        child.join(IMPORT_TIMEOUT_S - _PATIENCE_S)
    if child.is_alive():
        child.kill()
        child.join()
        return f"does not end within {IMPORT_TIMEOUT_S:.0f} s"
    if state[0]:
        return None if state[0] == _GOES_ON else "raises KeyboardInterrupt"
    code = child.exitcode or 0
    how = f"exit code {code}" if code >= 0 else f"signal {-code}, {signal.strsignal(-code)}"
    return f"ends the process with {how}"


def _try_in_child(module: str, state: mmap) -> NoReturn:
    """Import a module, and leave in `state` whether the process goes on."""
    try:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        nowhere = os.open(os.devnull, os.O_RDWR)
        for stream in range(3):
            os.dup2(nowhere, stream)
        importlib.import_module(module)
        state[0] = _GOES_ON
    except BaseException as error:
        state[0] = _INTERRUPTS if isinstance(error, KeyboardInterrupt) else _GOES_ON
    finally:
        os._exit(0)


class PluginFailed(ValueError):
    """A plugin's mechanism raised an error; the message names it."""


@contextmanager
def code_of(mechanism: str) -> Iterator[None]:
    """Turn what a plugin's mechanism raises inside into a refusal; an error of ours stays a bug.

    Raises:
        PluginFailed: instead of any other error, where the mechanism is not ours.
    """
    from bench.measuring.tasks.train import Diverged

    if attention_class(mechanism).__module__.startswith("attentions."):
        yield
        return
    try:
        with foreign_code():
            yield
    except (ConfigError, Diverged):
        raise
    except Exception as error:
        is_refusal = isinstance(error, ValueError)
        said = visible(said_by(error), LIMITS["reason"]) if is_refusal else told(error)
        raise PluginFailed(said) from error


def _remedy(plugin: str, error: BaseException) -> str:
    missing = error.name if isinstance(error, ModuleNotFoundError) else None
    if missing is not None and f"{plugin}.".startswith(f"{missing}."):  # or a package above it
        return ". It must be importable by that name, e.g. from the current folder or PYTHONPATH."
    place = _place(error)
    return "." if place is None else f"\nMend {place}."


def _place(error: BaseException) -> str | None:
    """Innermost line of the plugin's own code in a traceback; None if none of it ran."""
    if isinstance(error, SyntaxError) and error.filename is not None:
        return f"{error.filename}, line {error.lineno}"
    machinery = {__file__, importlib.__file__}
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if frame.filename not in machinery and not frame.filename.startswith("<frozen importlib")
    ]
    if not frames:
        return None
    # What lies deeper, in torch or in our registry, is not for the plugin's author to mend.
    home = Path(frames[0].filename).parent
    own = [frame for frame in frames if Path(frame.filename).parent == home]
    return f"{own[-1].filename}, line {own[-1].lineno}"
