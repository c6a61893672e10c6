"""Runs for W&B: each is written offline first, and then sent if there is a key.

The offline run is there whatever the network does. Sending is W&B's own program, given
`SEND_TIMEOUT_S`: with one server that does not answer, the others are not tried.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from pathlib import Path

from bench.publish.config import WANDB_MODES, PublishConfig
from bench.publish.sinks import wandb_door as door
from bench.publish.sinks.view import View

SEND_TIMEOUT_S = 12.0
"""With what comes before, a sweep waits 20 s at most for a server that does not answer."""

_FALSE_FRIENDS = {"dryrun": "offline", "run": "online"}  # older names that W&B still accepts


class Wandb:
    """Writes the runs of one call, and says once what went wrong.

    Attributes:
        notes: for the person.
    """

    def __init__(self, config: PublishConfig) -> None:
        self.notes: list[str] = []
        self._config = config
        self._mode, asked = "", config.wandb.mode or os.environ.get("WANDB_MODE") or ""
        self.is_disabled = _FALSE_FRIENDS.get(asked, asked) == "disabled"

    def write(self, view: View) -> Path | None:
        """Write a run and send it; None if W&B is missing, disabled or broken."""
        if self.is_disabled:
            return None
        try:
            if not self._mode:
                self._mode, notes = choose_mode(self._config.wandb.mode)
                self.notes += notes
                self.is_disabled = self._mode == "disabled"
            if self.is_disabled:
                return None
            folder = door.write_run(view, self._config)
        except Exception as error:
            self.is_disabled = True
            words = door.in_words(error)
            self.notes.append(f"W&B was left out: {words}. The records are unharmed.")
            return None
        if self._mode == "online" and (problem := send(folder)):
            self._mode = "offline"
            self.notes.append(
                f"W&B did not take the run: {problem}. It is written, and sent later by: "
                f"wandb sync {folder}"
            )
        return folder


def choose_mode(asked: str | None) -> tuple[str, list[str]]:
    """``online``, ``offline`` or ``disabled``, decided here so that W&B never asks a person.

    The configuration's word, else ``WANDB_MODE``, else what ``wandb offline`` has set, else online
    if an API key is configured, else offline. Online without a usable key is offline, with a note.
    """
    asked = asked or os.environ.get("WANDB_MODE") or None
    asked = _FALSE_FRIENDS.get(asked or "", asked)
    if asked in ("offline", "disabled"):
        return asked, []
    notes = []
    if asked not in (None, *WANDB_MODES):
        notes.append(f"WANDB_MODE={asked} is not known here; it was read as if it were not set.")
    ambient, problem = door.find_key()
    if asked != "online" and ambient in ("offline", "disabled"):
        return ambient, notes
    if not problem:
        return "online", notes
    is_wanted = asked == "online" or "WANDB_API_KEY" in os.environ or ambient is None
    if is_wanted:
        notes.append(
            f"W&B is offline, not online as asked: {problem}. Run `wandb login`, or set "
            f"WANDB_API_KEY and WANDB_BASE_URL; `wandb sync` sends what was written."
        )
    return "offline", notes


def send(folder: Path) -> str:
    """Send an offline run and remove what was kept for that; else why not, in words."""
    staging = door.staging_of(folder.parent, door.run_id_of(folder))
    cache = folder.parent / ".cache"
    process = subprocess.Popen(
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
    )
    try:
        said, _ = process.communicate(timeout=SEND_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        _end(process)
        return f"its server gave no answer in {SEND_TIMEOUT_S:.0f} s"
    except BaseException:
        _end(process)
        raise
    finally:
        shutil.rmtree(cache, ignore_errors=True)
    if process.returncode or not list(folder.glob("*.synced")):
        lines = [line.strip().removeprefix("wandb: ") for line in said.splitlines()]
        problems = [line.removeprefix("ERROR ") for line in lines if line.startswith("ERROR")]
        return (problems or [line for line in lines if line] or ["no reason given"])[-1].rstrip(".")
    shutil.rmtree(staging, ignore_errors=True)
    return ""


def _end(process: subprocess.Popen[str]) -> None:
    """The program and the service that it has started, which share a session."""
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
