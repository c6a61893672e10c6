"""Cells: units of measurement. A cell's JSON holds everything needed to measure it again."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields, replace
from functools import cached_property
from typing import Annotated, Any, ClassVar

from annotated_types import Interval, Len

from bench.core.cli.limits import Name, Plain, Rate, Share, Size, checked, like, one_of

DTYPES = ("float32", "bfloat16", "float16", "float64")
MODES = ("forward", "backward", "forward_backward", "train_step", "prefill", "decode")
CACHES = ("warm", "cold")
COMPILERS = ("eager", "inductor")
TOKEN_FILTERS = ("attention_rate", "object_rate", "random", "patch_contrast")
"""Which tokens a trained model keeps; `bench.measuring.tasks.token_filter` says how."""
MAX_THREADS = 1024  # as many as the largest machines of today have cores; more would end this one
MAX_IMAGE_SIZE = 4096
"""Pixels; at a patch of 4 already a million tokens, and a plan builds every model."""
MAX_SEED = 2**32 - 1  # NumPy's limit; torch would take more

# What a record may hold of each field.
DType = Annotated[str, one_of(*DTYPES)]
Mode = Annotated[str, one_of(*MODES)]
Cache = Annotated[str, one_of(*CACHES)]
Compiler = Annotated[str, one_of(*COMPILERS)]
Device = Annotated[str, like(r"cpu|cuda:\d{1,3}", "cpu, cuda:0, cuda:1 and so on")]


class _Timed:
    """Shared meaning of a mode for everything that is timed."""

    mode: str

    @property
    def has_backward(self) -> bool:
        """Whether gradients are taken."""
        return self.mode in ("backward", "forward_backward", "train_step")

    @property
    def flops_factor(self) -> int:
        """Work of the mode in forward passes: a product's backward pass is two of its size."""
        return {"backward": 2, "forward_backward": 3, "train_step": 3}.get(self.mode, 1)


@dataclass(frozen=True, kw_only=True)
class KernelWorkload(_Timed):
    """One shape to time a mechanism at.

    Attributes:
        mode: ``forward``; ``backward`` alone; ``forward_backward``; ``train_step`` of a layer with
            AdamW; ``prefill`` of a state from a prompt; ``decode`` of one token on top of it.
        cache: ``warm``, or ``cold``: flushed before every call.
        compile: ``eager``, or ``inductor``.
        num_kv_heads: heads of keys and values, where fewer than of queries; None for as many.
        key_len: M, the number of keys, where it is not that of the queries; None for as many.
        padding: share of the keys that are hidden in every row of the batch, the last ones. Of a
            causal form these are tokens behind the end, and their queries are padding as well.
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
        """The place on that axis."""
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
        """How many rows of the batch have so many (queries, keys) that are no padding.

        In the order in which they lie in the batch, the longest first.
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
        """Queries of a call, padding apart."""
        if self.mode == "decode":
            return self.batch_size
        return sum(queries * rows for (queries, _), rows in self.row_lens.items())

    @property
    def contradiction(self) -> str | None:
        """Why this cannot be asked of any mechanism, as a sentence; None if it can."""
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
"""Each row has a length of its own, and all are looked at when a sweep is planned."""


@dataclass(frozen=True, kw_only=True)
class ModelWorkload(_Timed):
    """One image model to time a mechanism in.

    Attributes:
        model: a name of `attentions.models`, or a user's own as ``path/to/factory.py:build``.
        image_size: side of the square images, in pixels.
        batch_size: images of a call.
        mode: ``forward``; ``backward`` alone; ``forward_backward``; ``train_step`` with AdamW.
        cache: as of `KernelWorkload`.
        compile: as of `KernelWorkload`.
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
        task: the registered name.
        settings: all that the entry's YAML sets: data, model and optimiser.
        seed: covers all randomness of the run.
        shared_rate: the learning rate of rows without one of their own, where `settings` has one
            that was searched for this row; a label, for the rate itself is what is trained with.
        is_at_edge: whether that search was best at an edge of what it tried; a label as well.
        token_filters: by which tokens are dropped once the model is trained; each is scored.
        token_keep: shares of tokens that are kept, each with each filter.
    """

    label: Name
    task: Name
    settings: Plain
    seed: Annotated[int, Interval(ge=0, le=MAX_SEED)]
    dtype: DType = "float32"
    shared_rate: Rate | None = None
    is_at_edge: bool = False
    token_filters: Annotated[tuple[Name, ...], Len(0, 100)] = ()
    token_keep: Annotated[tuple[Share, ...], Len(0, 100)] = ()

    @property
    def shared_settings(self) -> dict[str, Any]:
        """Settings shared by the rows of one table, with the rate of rows without their own."""
        filters = {name: list(getattr(self, name)) for name in _FILTERS if self.token_filters}
        rate = {} if self.shared_rate is None else {"learning_rate": self.shared_rate}
        return _without_later(self.settings) | rate | filters


_FILTERS = ("token_filters", "token_keep")
_FLAT_NAMES = {"label": "task_label", "settings": "task_settings"}
"""Fields of a task whose names differ from those of its cell."""

TimedWorkload = KernelWorkload | ModelWorkload
Workload = TimedWorkload | TaskWorkload

ORIGINAL = "original"
"""The mechanism, and the entry, of a model's cell in which nothing was replaced."""

LATER_SETTINGS = {"head_norm": False, "linear_std": 0.0, "patience": 0.25, "softmax_layers": 0}
"""Settings of all tasks that came after the first records, with the value that these had."""


def _without_later(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings of a task but for later ones at the value of records that lack them."""
    later = LATER_SETTINGS.items()
    return {name: value for name, value in settings.items() if (name, value) not in later}


LATER_HYPERPARAMETERS: dict[str, dict[str, Any]] = {
    "deltanet": {"negative_eigenvalues": False},
    "gated_deltanet": {"negative_eigenvalues": False},
}
"""Hyperparameters that came after a mechanism's first records, with the value that these had."""


def without_later_hyperparameters(mechanism: str, settings: dict[str, Any]) -> dict[str, Any]:
    """Hyperparameters of a cell but for later ones at the value of records that lack them.

    So keys, searched rates and an older library's constructor stay as they are.
    """
    later = LATER_HYPERPARAMETERS.get(mechanism, {}).items()
    return {name: value for name, value in settings.items() if (name, value) not in later}


_LATER_AXES = {f.name: f.default for f in fields(KernelWorkload) if f.default is not MISSING}
"""Axes that came after the first records, with the value that these had: it leaves keys alone."""

_NAMED_IF_SET = ("num_kv_heads", "key_len", "padding", "ragged")  # in a cell's short name


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One mechanism, with its hyperparameters, on one workload and one device.

    Attributes:
        entry: the leaderboard row's label. Not part of `key`: rename freely, measure once.
        mechanism: the registered name; `ORIGINAL` for a model as it is.
        hyperparameters: all of them, defaults included.
        device: a torch device, such as ``cpu`` or ``cuda:0``.
        num_threads: intra-op threads while this cell runs.
        workload: what is asked of the mechanism.
        plugins: modules to import before the mechanism's name is known.
    """

    entry: Name
    mechanism: Name
    hyperparameters: Plain
    device: Device
    num_threads: Annotated[int, Interval(ge=1, le=MAX_THREADS)]
    workload: Workload
    plugins: Annotated[tuple[Name, ...], Len(0, 100)] = field(default=())

    @cached_property
    def key(self) -> str:
        """A hash of what is measured: the cell without its labels."""
        identity = self.to_dict()
        for label in ("entry", "task_label", "shared_rate", "is_at_edge", "plugins"):
            identity.pop(label, None)
        for axis, usual in _LATER_AXES.items():
            if axis in identity and identity[axis] == usual:
                del identity[axis]
        if self.is_task:
            identity["task_settings"] = _without_later(identity["task_settings"])
        identity["hyperparameters"] = without_later_hyperparameters(
            self.mechanism, identity["hyperparameters"]
        )
        text = json.dumps(identity, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @property
    def is_task(self) -> bool:
        """True for a cell that trains; false for one that is timed."""
        return isinstance(self.workload, TaskWorkload)

    @property
    def is_model(self) -> bool:
        """True for a cell that times a whole model."""
        return isinstance(self.workload, ModelWorkload)

    @property
    def timed(self) -> TimedWorkload:
        """The workload of a cell that times, a mechanism or a whole model."""
        assert not isinstance(self.workload, TaskWorkload)
        return self.workload

    @property
    def model(self) -> ModelWorkload:
        """The workload of a cell that times a whole model."""
        assert isinstance(self.workload, ModelWorkload)
        return self.workload

    @property
    def kernel(self) -> KernelWorkload:
        """The workload of a cell that times a mechanism."""
        assert isinstance(self.workload, KernelWorkload)
        return self.workload

    @property
    def task(self) -> TaskWorkload:
        """The workload of a cell that trains."""
        assert isinstance(self.workload, TaskWorkload)
        return self.workload

    @property
    def eager(self) -> Cell:
        """The same cell without a compiler."""
        return (
            self if self.is_task else replace(self, workload=replace(self.timed, compile="eager"))
        )

    @property
    def block(self) -> str:
        """A hash of what cells that are timed side by side have in common.

        They may differ in the mechanism, in the compiler and in the number of threads.
        """
        shared = replace(self.eager, mechanism="", hyperparameters={}, num_threads=1)
        return shared.key

    def describe(self) -> str:
        """A short name for a progress line, such as ``nala seq_len=1024 float32 forward``."""
        if isinstance(self.workload, TaskWorkload):
            return f"{self.entry} {self.workload.label} seed={self.workload.seed}"
        w = self.workload
        words = [self.entry]
        if isinstance(w, ModelWorkload):
            words += [w.model, f"image_size={w.image_size}", w.dtype, w.mode]
        else:
            words += [f"seq_len={w.seq_len}", w.dtype, w.mode]
            words += ["causal"] if w.causal else []
            words += ["layer"] if w.scope == "layer" else []
        words += ["cold"] if w.cache == "cold" else []
        if isinstance(w, KernelWorkload):
            shape = {name: getattr(w, name) for name in _NAMED_IF_SET}
            words += [f"{name}={value}" for name, value in shape.items() if value]
        words += ["inductor"] if w.compile == "inductor" else []
        return " ".join([*words, self.device])

    def to_dict(self) -> dict[str, Any]:
        """One flat object, the entry apart."""
        flat: dict[str, Any] = {
            "entry": self.entry,
            "mechanism": self.mechanism,
            "hyperparameters": dict(self.hyperparameters),
            "device": self.device,
            "num_threads": self.num_threads,
            "plugins": list(self.plugins),
        }
        if isinstance(self.workload, TaskWorkload):
            w = asdict(self.workload)
            filters = {name: list(found) for name in _FILTERS if (found := w.pop(name))}
            own = {_FLAT_NAMES.get(name, name): value for name, value in w.items()}
            return flat | filters | {"kind": "task"} | own
        if isinstance(self.workload, ModelWorkload):
            scope = {"kind": "model", "scope": self.workload.scope}
            return flat | scope | vars(self.workload)
        return flat | {"kind": "kernel"} | vars(self.workload)

    @classmethod
    def from_dict(cls, flat: dict[str, Any]) -> Cell:
        """The inverse of `to_dict`.

        Raises:
            ValueError: a field is missing, or is not what its annotation says.
        """
        workload: Workload
        if flat.get("kind") == "task":
            own = flat | {name: flat[its] for name, its in _FLAT_NAMES.items() if its in flat}
            own |= {n: tuple(flat[n]) for n in _FILTERS if isinstance(flat.get(n), list)}
            workload = checked(TaskWorkload, own)
        elif flat.get("kind") == "model":
            workload = checked(ModelWorkload, flat)
        elif flat.get("kind") == "kernel":
            workload = checked(KernelWorkload, flat)
        else:
            raise ValueError(f"kind is {ascii(flat.get('kind'))[:80]}; kernel, model or task")
        plugins = flat.get("plugins", ())
        lists = {"plugins": tuple(plugins) if isinstance(plugins, list) else plugins}
        return checked(cls, flat | {"workload": workload} | lists)
