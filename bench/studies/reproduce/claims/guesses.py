"""Scores of answers that ignore the input."""

from __future__ import annotations

from collections import Counter
from typing import Any

import torch

from bench.measuring.tasks.base import Split, Task, build_task
from bench.measuring.tasks.listops import ListOps
from bench.studies.reproduce.claims.registry import Lab, register_claim
from bench.studies.reproduce.findings import Finding
from bench.studies.reproduce.runs import entry_of
from bench.studies.reproduce.verdicts import PaperVerdict, share_interval

_AT_ONCE = 250


@register_claim("task-guess")
def task_guess(lab: Lab, *, task: str, overrides: dict[str, Any]) -> Finding:
    """The score of a task's stated guess, which follows from its settings."""
    built = _built(task, overrides)
    words = f"by its settings: {built.guess}"
    return Finding(verdict=PaperVerdict.HOLDS, words=words, value=built.chance())


@register_claim("listops-constant-answer")
def listops_constant_answer(lab: Lab, *, num_examples: int = 30_000) -> Finding:
    """The share of ListOps' most frequent value: the score of a model that always answers it."""
    value, count = _counts(lab, num_examples).most_common(1)[0]
    low, high = share_interval(count / num_examples, num_examples)
    words = f"by a constant answer, the value {value} of {num_examples:,} expressions"
    return Finding(
        verdict=PaperVerdict.HOLDS, words=words, value=count / num_examples, low=low, high=high
    )


_COUNTED: dict[int, Counter[int]] = {}
"""Counts by number of expressions; several cells of a paper need the same."""


def _counts(lab: Lab, num_examples: int) -> Counter[int]:
    """How often each value is the answer."""
    if num_examples not in _COUNTED:
        task = _built("listops", {})
        assert isinstance(task, ListOps)
        stream = torch.Generator().manual_seed(0)
        counts: Counter[int] = Counter()
        for first in lab.steps(range(0, num_examples, _AT_ONCE), "expressions, part"):
            size = min(_AT_ONCE, num_examples - first)
            counts.update(task.draw(size, Split.TEST, stream).targets.flatten().tolist())
        _COUNTED[num_examples] = counts
    return _COUNTED[num_examples]


def _built(task: str, overrides: dict[str, Any]) -> Task:
    settings = entry_of("task", task) | overrides
    return build_task(settings.pop("task"), settings)
