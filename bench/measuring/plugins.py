"""Import the modules named under ``plugins``, and run their mechanisms in this process."""

from __future__ import annotations

import importlib
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from attentions import attention_class, attention_names
from bench.core.cli.errors import ConfigError
from bench.core.cli.foreign import foreign_code, told
from bench.core.cli.texts import LIMITS, said_by, visible


def import_plugins(plugins: tuple[str, ...]) -> None:
    """Import modules that register mechanisms or tasks of their own.

    Raises:
        ConfigError: one cannot be imported, with its name, the error and the line to mend.
    """
    if plugins:
        from bench.measuring.tasks.base import (
            task_names,  # imports torch, which a list of mechanisms does not need
        )

        # Ours first, so that a plugin that reuses one of these names fails at its own line.
        attention_names()
        task_names()
    for plugin in plugins:
        try:
            importlib.import_module(plugin)
        except (Exception, SystemExit) as error:  # foreign code, which its author must mend
            raise ConfigError(
                f"plugins names {plugin!r}, which cannot be imported: "
                f"{told(error)}{_remedy(plugin, error)}"
            ) from error


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
