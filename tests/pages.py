"""A page of docs/ done literally: its files in an empty folder, its commands in turn."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FENCE = re.compile(r"^```(\w+) (\S+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
QUICK = "measure.budget_s=0.1 measure.max_rounds=20 charts=false"
"""Keys that every sweep of a page gets besides its own: a row needs no second of timing."""


def text_of(name: str) -> str:
    """A page of docs/."""
    return (ROOT / "docs" / name).read_text()


def typed(name: str, folder: Path) -> Path:
    """Type all of a page, as a reader would; tools/ is this checkout's, and sweeps are short."""
    commands = []
    for _, what, text in FENCE.findall(text_of(name)):
        if what == "run":
            text = text.replace(" tools/", f" {ROOT}/tools/")
            commands.append(text.replace("-m bench.sweep ", f"-m bench.sweep {QUICK} "))
            continue
        if not what.startswith("file="):
            continue
        path = folder / what.removeprefix("file=")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    assert commands
    search = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    for command in commands:
        done = subprocess.run(
            ["bash", "-euc", command],
            cwd=folder,
            env={**os.environ, "PATH": search, "WANDB_MODE": "disabled"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
    return folder
