"""Workloads that a mechanism is measured on: a shape, an image model or a training run.

Settings and hyperparameters that were added after the first records do not change their keys.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any, ClassVar

from annotated_types import Interval, Len

from bench.core.cli.limits import MAX_SIZE, Name, Plain, Rate, Rule, Share, Size, one_of

DTYPES = ("float32", "bfloat16", "float16", "float64")
MODES = ("forward", "backward", "forward_backward", "train_step", "prefill", "decode")
CACHES = ("warm", "cold")
COMPILERS = ("eager", "inductor")
TOKEN_FILTERS = ("attention_rate", "object_rate", "random", "patch_contrast")
"""Rules by which a trained model keeps tokens, see `bench.measuring.tasks.token_filter`."""
MAX_IMAGE_SIZE = 4096
"""Largest side in pixels: a million tokens at a patch of 4, and planning builds every model."""
MAX_SEED = 2**32 - 1  # NumPy's limit; torch would take more

# Values that a record may hold.
DType = Annotated[str, one_of(*DTYPES)]
Mode = Annotated[str, one_of(*MODES)]
Cache = Annotated[str, one_of(*CACHES)]
Compiler = Annotated[str, one_of(*COMPILERS)]


_OF_RECIPE = ("num_steps", "num_layers", "num_heads", "embed_dim")
"""Settings of every task that tables compute with: sizes of its model and its run."""


def _has_recipe(settings: Mapping[str, Any]) -> bool:
    """Whether the settings that all tasks share, as far as they are there, are numbers above 0."""
    sizes = [settings[name] for name in _OF_RECIPE if name in settings]
    rate = settings.get("learning_rate")
    is_rate = rate is None or (type(rate) in (int, float) and rate > 0)
    return is_rate and all(type(size) is int and 0 < size <= MAX_SIZE for size in sizes)


class _Timed:
    """Shared meaning of a mode for everything that is timed."""

    mode: str

    @property
    def has_backward(self) -> bool:
        """Whether gradients are taken."""
        return self.mode in ("backward", "forward_backward", "train_step")

    @property
    def flops_factor(self) -> int:
        """Work of the mode in forward passes: the backward pass of a product is two like it."""
        return {"backward": 2, "forward_backward": 3, "train_step": 3}.get(self.mode, 1)


@dataclass(frozen=True, kw_only=True)
class KernelWorkload(_Timed):
    """One shape to time a mechanism at.

    Attributes:
        mode: ``forward``; ``backward`` alone; ``forward_backward``; ``train_step`` of a layer with
            AdamW; ``prefill`` of a state from a prompt; ``decode`` of one token after it.
        cache: ``warm``, or ``cold``: flushed before every call.
        compile: ``eager``, or ``inductor``.
        num_kv_heads: heads of keys and values if fewer than those of queries; None for as many.
        key_len: M, the number of keys if it is not that of queries; None for as many.
        padding: share of the keys, the last ones, that are hidden in every row of the batch. In a
            causal form these are tokens past the end, and their queries are padding as well.
        ragged: row b of a batch of B has N (1 - ragged b / (B - 1)) tokens, rounded, and is padded
            to N; as queries and as keys.
    """

    seq_len: Size
    batch_size: Size
    num_heads: Size
    head_dim: Size
    dtype: DType
    mode: Mode
    causal: bool
    scope: Annotated[str, one_of("core", "layer")]
    cache: Cache = "warm"
    compile: Compiler = "eager"
    num_kv_heads: Size | None = None
    key_len: Size | None = None
    padding: Share = 0.0
    ragged: Share = 0.0

    size_axis: ClassVar[str] = "seq_len"
    """The axis that tables and curves run along."""

    @property
    def size(self) -> int:
        """Value on the axis `size_axis`."""
        return self.seq_len

    def without_size(self) -> KernelWorkload:
        """The settings shared by cells that differ in their size only."""
        return replace(self, seq_len=0)

    @property
    def num_keys(self) -> int:
        """M: keys of a row, hidden ones too."""
        return self.key_len or self.seq_len

    @property
    def is_masked(self) -> bool:
        """Whether a call gets a mask over its keys."""
        return self.padding > 0 or self.ragged > 0

    @property
    def row_lens(self) -> Mapping[tuple[int, int], int]:
        """(queries, keys) without padding -> how many rows of the batch have these numbers.

        In the order of the batch, the longest first.
        """
        n, m = self.seq_len, self.num_keys
        if self.ragged:
            step = self.ragged / max(1, self.batch_size - 1)
            lengths = [round(n * (1 - step * row)) for row in range(self.batch_size)]
            return Counter((length, length) for length in lengths)
        kept = m - round(self.padding * m)
        return {(kept if self.causal else n, kept): self.batch_size}

    @property
    def num_tokens(self) -> int:
        """Queries of a call over the batch, without padding."""
        if self.mode == "decode":
            return self.batch_size
        return sum(queries * rows for (queries, _), rows in self.row_lens.items())

    @property
    def contradiction(self) -> str | None:
        """Why no mechanism can run this, as a sentence; None if nothing speaks against it."""
        if self.key_len is not None and self.causal:
            return "key_len needs causal=false: a causal form has as many keys as queries."
        if self.key_len is not None and self.scope == "layer":
            return "key_len needs scope=core: a layer takes queries and keys from one input."
        if not self.is_masked:
            return None
        if self.scope == "layer":
            return "padding and ragged need a mask, and a layer is called without one."
        if self.mode in ("prefill", "decode"):
            return "padding and ragged need a mask, and prefill and decode are called without one."
        if self.ragged and self.padding:
            return "padding and ragged both say where a row ends; one of them has to be 0."
        if self.ragged and self.key_len is not None:
            return "ragged is a length of queries and keys alike, and key_len makes them differ."
        return self._why_no_rows()

    def _why_no_rows(self) -> str | None:
        if self.ragged and self.batch_size == 1:
            return "ragged needs several rows to differ, and batch_size is 1."
        if self.ragged and self.batch_size > MAX_RAGGED_ROWS:
            return f"ragged takes batches of up to {MAX_RAGGED_ROWS:,} rows."
        if not min(keys for _, keys in self.row_lens):
            hidden = f"ragged={self.ragged:g}" if self.ragged else f"padding={self.padding:g}"
            return f"{hidden} leaves a row of {self.num_keys:,} keys with none."
        return None


MAX_RAGGED_ROWS = 2**16
"""Largest batch of ragged rows: the length of every row is computed when a sweep is planned."""


@dataclass(frozen=True, kw_only=True)
class ModelWorkload(_Timed):
    """One image model to time a mechanism in.

    Attributes:
        model: a name of `attentions.models`, or a user's own as ``path/to/factory.py:build``.
        image_size: side of the square images, in pixels.
        batch_size: images of a call.
        mode: ``forward``; ``backward`` alone; ``forward_backward``; ``train_step`` with AdamW.
    """

    model: Name
    image_size: Annotated[int, Interval(ge=1, le=MAX_IMAGE_SIZE)]
    batch_size: Size
    dtype: DType
    mode: Mode
    cache: Cache = "warm"
    compile: Compiler = "eager"

    scope: ClassVar[str] = "model"
    size_axis: ClassVar[str] = "image_size"

    @property
    def size(self) -> int:
        """See `KernelWorkload`."""
        return self.image_size

    def without_size(self) -> ModelWorkload:
        """See `KernelWorkload`."""
        return replace(self, image_size=0)


@dataclass(frozen=True, kw_only=True)
class TaskWorkload:
    """One training run to score a mechanism by.

    Attributes:
        label: the task entry's name in the table.
        settings: all that the entry's YAML sets: data, model and optimiser.
        seed: covers all randomness of the run.
        shared_rate: the learning rate of rows without one of their own, if `settings` has one that
            was searched for this row. Not part of the cell's key: it is not trained with.
        is_at_edge: whether that search was best at an edge of its grid. Not part of the key either.
        token_filters: rules by which the trained model drops tokens; each is scored.
        token_keep: shares of tokens that are kept, each with each filter.
    """

    label: Name
    task: Name
    settings: Annotated[Plain, Rule(_has_recipe, "whole numbers for sizes, and a rate")]
    seed: Annotated[int, Interval(ge=0, le=MAX_SEED)]
    dtype: DType = "float32"
    shared_rate: Rate | None = None
    is_at_edge: bool = False
    token_filters: Annotated[tuple[Name, ...], Len(0, 100)] = ()
    token_keep: Annotated[tuple[Share, ...], Len(0, 100)] = ()

    @property
    def shared_settings(self) -> dict[str, Any]:
        """Settings shared by the rows of one table, with the learning rate that they share.

        Later settings that the record lacks have the value that it was trained with.
        """
        filters = {name: list(getattr(self, name)) for name in FILTERS if self.token_filters}
        rate = {} if self.shared_rate is None else {"learning_rate": self.shared_rate}
        return later_settings(self.task) | self.settings | rate | filters


FILTERS = ("token_filters", "token_keep")
"""Fields of a task that a cell's JSON has only where they are set."""
FLAT_NAMES = {"label": "task_label", "settings": "task_settings"}
"""Fields of a task whose names differ in a cell's JSON -> the names there."""

TimedWorkload = KernelWorkload | ModelWorkload
Workload = TimedWorkload | TaskWorkload


LATER_SETTINGS = {"head_norm": False, "linear_std": 0.0, "patience": 0.25, "softmax_layers": 0}
"""Settings of all tasks added after the first records, with the value that those had."""
LATER_SETTINGS_OF = {"word_problem": {"scored": "all"}}
"""The same for the settings of one task."""


def later_settings(task: str) -> dict[str, Any]:
    """Settings of a task that were added after its first records, with the value of those."""
    return LATER_SETTINGS | LATER_SETTINGS_OF.get(task, {})


def without_later_settings(task: str, settings: dict[str, Any]) -> dict[str, Any]:
    """Settings of a task, without later ones that have the value of records that lack them."""
    later = later_settings(task).items()
    return {name: value for name, value in settings.items() if (name, value) not in later}


LATER_HYPERPARAMETERS: dict[str, dict[str, Any]] = {
    "deltanet": {"negative_eigenvalues": False},
    "gated_deltanet": {"negative_eigenvalues": False},
}
"""Hyperparameters added after a mechanism's first records, with the value that those had."""


def without_later_hyperparameters(mechanism: str, settings: dict[str, Any]) -> dict[str, Any]:
    """Hyperparameters of a cell, without later ones that have the value of records that lack them.

    This keeps keys and searched rates valid, and calls of an older library's constructor.
    """
    later = LATER_HYPERPARAMETERS.get(mechanism, {}).items()
    return {name: value for name, value in settings.items() if (name, value) not in later}
