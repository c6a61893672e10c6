"""A page of docs/ done literally: its files in an empty folder, its commands in turn."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FENCE = re.compile(r"^```(\w+) (\S+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def text_of(name: str) -> str:
    """A page of docs/."""
    return (ROOT / "docs" / name).read_text()


def typed(name: str, folder: Path) -> Path:
    """What a reader has after typing all of a page; tools/ is this checkout's."""
    commands = []
    for _, what, text in FENCE.findall(text_of(name)):
        if what == "run":
            commands.append(text.replace(" tools/", f" {ROOT}/tools/"))
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
