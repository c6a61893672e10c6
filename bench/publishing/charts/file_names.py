"""File names of charts, with everything that was held fixed."""

from __future__ import annotations

import hashlib
import os
import re

from bench.core.cell import ModelWorkload
from bench.publishing.leaderboard import Leaderboard, Setting
from bench.publishing.scores import TaskScores
from bench.publishing.tables import place_words

_MAX_BYTES = 200
"""Longest name in bytes: with a prefix, an ending and a random part a file has 255 at most."""


def slug(setting: Setting, board: Leaderboard) -> str:
    """A setting as part of a file name, with everything that was held fixed."""
    shape = setting.workload
    parts = [place_slug(setting, board), shape.dtype, shape.mode, shape.scope]
    size = f"{shape.batch_size}"
    if isinstance(shape, ModelWorkload):
        parts.append(shape.model)
    else:
        parts += ["causal"] if shape.causal else []
        size += f"x{shape.num_heads}x{shape.head_dim}"
    parts += [*(f"{name}-{value}" for name, value in setting.extras.items()), size]
    return _bounded(re.sub(r"[^\w]+", "-", "-".join(parts)))


def task_slug(what: str, task: TaskScores, board: Leaderboard) -> str:
    """File name of a task's chart: the quantity shown, and where it was trained."""
    return _bounded(re.sub(r"[^\w-]+", "-", f"{what}-{place_slug(task, board)}"))


def place_slug(place: Setting | TaskScores, board: Leaderboard) -> str:
    """Device and threads; the machine and the method where a leaderboard has several."""
    return re.sub(r"[^\w]+", "-", place_words(place, board).replace(":", ""))


def _bounded(name: str) -> str:
    """The name; the end of one that no file could have is a hash of it."""
    whole = os.fsencode(name)
    if len(whole) <= _MAX_BYTES:
        return name
    start = whole[: _MAX_BYTES - 20].decode(errors="ignore")
    return f"{start}-{hashlib.sha256(whole).hexdigest()[:16]}"
