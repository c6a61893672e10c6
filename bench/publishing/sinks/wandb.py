"""Runs for W&B: each is written offline first, and then uploaded if there is a key.

The offline run exists whatever the network does. W&B's own program uploads it, within
`SEND_TIMEOUT_S`; after a failure no further run is uploaded.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Iterable
from pathlib import Path

from bench.publishing.config import PublishConfig
from bench.publishing.sinks import wandb_door as door
from bench.publishing.sinks.view import View

SEND_TIMEOUT_S = 12.0
"""Longest upload; with what comes before it, a sweep waits at most 20 s for a silent server."""


def write_wandb(views: Iterable[View], config: PublishConfig) -> tuple[list[Path], list[str]]:
    """Write a run for each view in place of earlier ones of the same id, and upload it."""
    folders: list[Path] = []
    notes: list[str] = []
    try:
        mode, notes = choose_mode(config.wandb.mode)
        for view in views if mode != "disabled" else ():
            folders.append(door.write_run(view, config))
            if mode == "online" and (problem := send(folders[-1])):
                mode = "offline"
                notes.append(
                    f"W&B did not take the run: {problem}. It is written, and sent later by: "
                    f"wandb sync {folders[-1]}"
                )
    except Exception as error:
        notes.append(f"W&B was left out: {door.in_words(error)}. The records are unharmed.")
    return folders, notes


def choose_mode(asked: str | None) -> tuple[str, list[str]]:
    """``online``, ``offline`` or ``disabled``, decided here so that W&B never prompts.

    The configured mode, else ``WANDB_MODE``, else online; any other mode of W&B counts as offline.
    Without a usable key online becomes offline, with a note if online was configured or
    ``WANDB_API_KEY`` is set.
    """
    asked = asked or os.environ.get("WANDB_MODE") or None
    if asked not in (None, "online"):
        return ("disabled" if asked == "disabled" else "offline"), []
    problem = door.why_not_online()
    if not problem:
        return "online", []
    if asked is None and "WANDB_API_KEY" not in os.environ:
        return "offline", []
    return "offline", [
        f"W&B is offline, not online as asked: {problem}. Run `wandb login`, or set "
        f"WANDB_API_KEY and WANDB_BASE_URL; `wandb sync` sends what was written."
    ]


def send(folder: Path) -> str:
    """Upload an offline run and remove its staged files; returns why it failed, or nothing."""
    staging = door.staging_of(folder.parent, door.run_id_of(folder))
    cache = folder.parent / ".cache"
    with subprocess.Popen(
        door.push_command(folder),
        env=os.environ
        | {"WANDB_DIR": str(folder.parent.parent)}
        | {"WANDB_DATA_DIR": str(staging), "WANDB_CACHE_DIR": str(cache)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    ) as process:
        try:
            said, _ = process.communicate(timeout=SEND_TIMEOUT_S)
        except BaseException as error:
            os.killpg(process.pid, signal.SIGKILL)  # also the service that it has started
            if isinstance(error, subprocess.TimeoutExpired):
                return f"its server gave no answer in {SEND_TIMEOUT_S:.0f} s"
            raise
        finally:
            shutil.rmtree(cache, ignore_errors=True)
    if process.returncode or not list(folder.glob("*.synced")):
        lines = [line.strip().removeprefix("wandb: ") for line in said.splitlines()]
        problems = [line.removeprefix("ERROR ") for line in lines if line.startswith("ERROR")]
        return (problems or [line for line in lines if line] or ["no reason given"])[-1].rstrip(".")
    shutil.rmtree(staging, ignore_errors=True)
    return ""
