"""Settings of `bench.advise`."""

from __future__ import annotations

from typing import Annotated, Any

from bench.core.cell import DTYPES, MODES
from bench.core.cli.errors import ConfigError
from bench.core.settings import (
    BeforeValidator,
    Folder,
    Group,
    Interval,
    Many,
    Settings,
    Some,
    Word,
    chosen,
    model_validator,
)

CAUSAL_MODES = ("prefill", "decode")
"""Modes in which a token sees only those before it."""


def _one_name(composed: Any) -> str | None:
    names = list(composed or ())
    if len(names) > 1:
        raise ConfigError(f"task names {len(names)} tasks; one is asked about. Say task=recall.")
    return names[0] if names else None


class Advise(Settings):
    """Say which mechanisms fulfil some needs, as far as stored records prove it, and at what cost.

    Those that the records cannot tell apart are named together, with the cheapest experiment that
    would separate them.
    """

    seq_len: Many[Annotated[int, Interval(ge=1)]] = (4096,)
    """Tokens of a call, or of the context that a token is decoded on; within what was measured."""
    mode: Many[Annotated[str, Word(lambda: MODES)]] = ("forward",)
    """Call that is to be cheap: forward, forward_backward, prefill, decode and so on."""
    task: Annotated[str | None, Group("task"), BeforeValidator(_one_name)] = chosen(())
    """Task that has to be solved; none: any mechanism will do."""
    score: Annotated[float, Interval(ge=0.0)] | None = None
    """Least score on it, in percent, or greatest in the unit of a task that has one; null: the
    best that was reached.
    """
    holds: Annotated[float, Interval(gt=0)] | None = None
    """Least span on a task with rungs, such as 32 pairs; without a task, on recall_span in the
    direction asked for.
    """
    causal: bool | None = None
    """Whether a token sees only those before it; null: as the task has it, and in decode."""
    batch_size: Annotated[int, Interval(ge=1)] = 1
    """Sequences of a call."""
    dtype: Annotated[str, Word(lambda: DTYPES)] = "float32"
    """Type of the numbers."""
    records: Some[Folder] = ()
    """Folders to look for records in; empty: docs/results and results/ of the code, and results/
    here.
    """
    page: Folder | None = None
    """File to write the answer to, e.g. docs/results/advice.md."""

    @model_validator(mode="after")
    def _no_bidirectional_decoding(self) -> Advise:
        if self.causal is False and (own := [mode for mode in self.mode if mode in CAUSAL_MODES]):
            raise ValueError(
                f"causal=false beside mode={own[0]}, in which a token sees only those before it. "
                "Leave causal out, or ask for mode=forward."
            )
        return self

    @model_validator(mode="after")
    def _holds_or_score(self) -> Advise:
        if self.score is not None and self.holds is not None:
            raise ValueError(
                "score and holds both say what has to be reached. Leave one of them out."
            )
        return self

    @model_validator(mode="after")
    def _score_has_a_task(self) -> Advise:
        if self.score is not None and self.task is None:
            raise ValueError(
                f"score={self.score:g} is a score on no task. Name one, e.g. task=recall_causal."
            )
        return self
