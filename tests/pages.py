"""Follow a page of docs/ literally: write its files into an empty folder, run its commands."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FENCE = re.compile(r"^```(\w+) (\S+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
QUICK = "measure.budget_s=0.1 measure.max_rounds=20 charts=false"
"""Keys that are added to every sweep of a page, to make its timing short."""


def text_of(name: str) -> str:
    """A page of docs/."""
    return (ROOT / "docs" / name).read_text()


def typed(name: str, folder: Path) -> Path:
    """Write all files of a page and run its commands, as a reader would; returns the folder.

    The tools/ that it names are this checkout's, and its sweeps are made short.
    """
    commands = []
    for _, what, text in FENCE.findall(text_of(name)):
        if what == "run":
            text = text.replace(" tools/", f" {ROOT}/tools/")
            commands.append(re.sub(r"-m bench\.sweep .*", rf"\g<0> {QUICK}", text))
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
