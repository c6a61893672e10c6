"""A git checkout of this very tree in a folder of its own, to change and commit in."""

import contextlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[4]
TINY = {
    "attention": "[softmax,linear]",
    "task": "[]",
    "seq_len": "[64]",
    "mode": "forward",
    "num_heads": "2",
    "head_dim": "16",
    "budget_s": "0",
    "out": "results",
}
"""A comparison of a few seconds."""


def tiny(**changes: str) -> list[str]:
    """Words of a command line."""
    return [f"{key}={value}" for key, value in (TINY | changes).items()]


PATCH = """

import functools  # noqa: E402
import itertools  # noqa: E402
import os  # noqa: E402

_calls = itertools.count(1)
_once = {name}.forward


@functools.wraps(_once)
def _patched(self, q, k, v, **rest):
    {first}
    return _once(self, q, k, v, **rest)


{name}.forward = _patched
"""
WASTE = "q @ k.transpose(-2, -1)"
"""A product that nobody needs."""

DEATH = "next(_calls) > 300 and os._exit(7)"
"""An end that no trial reaches, and every timing does."""


class Checkout:
    """`attnbench regress` runs from here on the mechanisms that are here."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        ignored = shutil.ignore_patterns("__pycache__")
        for name in ("attentions", "bench", "conf"):
            shutil.copytree(ROOT / name, folder / name, ignore=ignored)
        self.temporary = folder.parent / "temporary"
        self.temporary.mkdir()
        self.git("init", "--quiet", "--initial-branch=main")
        (folder / ".gitignore").write_text("__pycache__/\nresults/\n")
        self.commit("first")

    def git(self, *words: str) -> str:
        author = ("-c", "user.name=a", "-c", "user.email=a@localhost", "-c", "commit.gpgsign=false")
        done = subprocess.run(
            ["git", *author, *words],
            cwd=self.folder,
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout.strip()

    def commit(self, message: str) -> None:
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "--message", message)

    def replace(self, file: str, old: str, new: str) -> None:
        path = self.folder / file
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new))

    @contextlib.contextmanager
    def branch(self, name: str) -> Iterator[None]:
        """A new branch off main inside, main again afterwards."""
        self.git("switch", "--quiet", "--create", name, "main")
        try:
            yield
        finally:
            self.git("switch", "--quiet", "--force", "main")

    def patch(self, file: str, first: str) -> None:
        """Let a mechanism's forward pass begin with a statement."""
        path = self.folder / file
        text = path.read_text()
        (name,) = re.findall(r"^class (\w+)\((?:Attention|KernelCore)\)", text, re.M)
        path.write_text(text + PATCH.format(name=name, first=first))

    def environment(self) -> dict[str, str]:
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("GIT_", "ATTNBENCH_"))}
        ours = {"PYTHONPATH": str(self.folder), "TMPDIR": str(self.temporary), "COLUMNS": "200"}
        return kept | ours

    def start(self, *words: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "bench.regress", *words],
            cwd=self.folder,
            env=self.environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def regress(self, *words: str) -> subprocess.CompletedProcess[str]:
        process = self.start(*words)
        out, err = process.communicate(timeout=300)
        return subprocess.CompletedProcess(words, process.returncode, out, err)

    def worktrees(self) -> list[str]:
        return self.git("worktree", "list").splitlines()

    def leftovers(self) -> list[str]:
        """Files that a comparison left in the temporary folder."""
        return [path.name for path in self.temporary.glob("attnbench-base-*")]
