"""The source trees of a comparison: this one, and a worktree of another commit."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bench.core.cli.errors import ConfigError
from bench.core.places import CHECKOUT

HERE = CHECKOUT
MEASURED = ("attentions", "conf/attention")
"""Parts that the gate takes from each tree: the mechanisms, and how their entries are set."""

_GIT_TIMEOUT_S = 120
_PREFIX = "attnbench-base-"
"""Prefix of a temporary folder's name, before the number of its process."""


@dataclass(frozen=True, kw_only=True)
class Tree:
    """A source tree that can be measured.

    Attributes:
        root: its folder.
        commit: full hash; for the working tree, of the commit that it is based on.
        is_dirty: whether tracked files under `MEASURED` differ from that commit.
    """

    root: Path
    commit: str
    is_dirty: bool


def current_tree() -> Tree:
    """The tree that this code runs from.

    Raises:
        ConfigError: it is not a git checkout.
    """
    _check_checkout()
    commit = _git("rev-parse", "HEAD")
    # Untracked files do not count: they are part of no commit yet.
    changed = _git("status", "--porcelain", "--untracked-files=no", "--", *MEASURED)
    return Tree(root=HERE, commit=commit, is_dirty=bool(changed))


def _check_checkout() -> None:
    """Refuse a copy outside of git, and one that lies inside of somebody else's checkout."""
    _git("--version")
    try:
        is_ours = _git("ls-files", "attentions/__init__.py") != ""
    except ConfigError as error:
        raise ConfigError(
            f"Commits are compared in a git checkout, and {HERE} is none that git can read: "
            f"{error} Clone the repository, or compare stored numbers with baseline=."
        ) from error
    if not is_ours:
        raise ConfigError(
            f"Commits are compared in a git checkout, and {HERE} is not tracked by one. Clone the "
            "repository, or compare stored numbers with baseline=."
        )


def resolve(reference: str) -> str:
    """The full hash of a commit.

    Raises:
        ConfigError: git does not know it.
    """
    try:
        return _git("rev-parse", "--verify", "--quiet", f"{reference}^{{commit}}")
    except ConfigError as error:
        names = _git("for-each-ref", "--format=%(refname:short)").split()[:8]
        raise ConfigError(
            f"base={reference} is not a commit that git knows here. Give a branch, tag or hash, "
            f"e.g. {', '.join(['HEAD~1', *names])}."
        ) from error


def default_base() -> str:
    """The merge base with ``origin/main``; ``HEAD~1`` if that is HEAD itself or does not exist.

    Raises:
        ConfigError: there is no earlier commit.
    """
    with contextlib.suppress(ConfigError):
        base = _git("merge-base", "HEAD", "origin/main")
        if base != _git("rev-parse", "HEAD"):
            return base
    try:
        return resolve("HEAD~1")
    except ConfigError as error:
        raise ConfigError(
            "There is no earlier commit to compare with. Name one with base=REF."
        ) from error


@contextlib.contextmanager
def worktree(commit: str) -> Iterator[Tree]:
    """Check a commit out into a temporary folder, which is removed afterwards in any case.

    The folder of a process that was killed is removed by the next comparison.
    """
    _remove_left_behind()
    folder = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-"))
    try:
        _git("worktree", "add", "--detach", "--force", str(folder / "tree"), commit)
        yield Tree(root=folder / "tree", commit=commit, is_dirty=False)
    finally:
        _remove(folder)


def _remove_left_behind() -> None:
    """Remove worktrees of this checkout whose process was killed before it could."""
    for line in _git("worktree", "list", "--porcelain").splitlines():
        folder = Path(line.removeprefix("worktree ")).parent
        owner = re.match(rf"{_PREFIX}(\d+)-", folder.name)
        if line.startswith("worktree ") and owner and not _is_alive(int(owner[1])):
            _remove(folder)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # somebody else's
        return True
    return True


def _remove(folder: Path) -> None:
    with contextlib.suppress(ConfigError):
        _git("worktree", "remove", "--force", str(folder / "tree"))
    shutil.rmtree(folder, ignore_errors=True)
    with contextlib.suppress(ConfigError):
        _git("worktree", "prune")


def _git(*words: str) -> str:
    try:
        done = subprocess.run(
            ["git", "-C", str(HERE), *words], capture_output=True, text=True, timeout=_GIT_TIMEOUT_S
        )
    except FileNotFoundError as error:
        raise ConfigError("git is not installed; a comparison of commits needs it.") from error
    except subprocess.TimeoutExpired as error:
        raise ConfigError(f"git {words[0]} took longer than {_GIT_TIMEOUT_S} s.") from error
    if done.returncode != 0:
        words_of_git = done.stderr.strip().splitlines()
        because = words_of_git[-1] if words_of_git else f"exit code {done.returncode}"
        raise ConfigError(f"git {words[0]} failed in {HERE}: {because}")
    return done.stdout.strip()
