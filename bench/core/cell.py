"""Cells: units of measurement. A cell's JSON holds everything needed to measure it again."""

from __future__ import annotations

import hashlib
import json
from dataclasses import MISSING, asdict, dataclass, field, fields, replace
from functools import cached_property
from typing import Annotated, Any

from annotated_types import Interval, Len

from bench.core.cli.entries import LAYERS
from bench.core.cli.limits import Name, Plain, checked, like
from bench.core.workloads import CACHES as CACHES
from bench.core.workloads import COMPILERS as COMPILERS
from bench.core.workloads import DTYPES as DTYPES
from bench.core.workloads import (
    FILTERS,
    FLAT_NAMES,
    without_later_hyperparameters,
    without_later_settings,
)
from bench.core.workloads import MAX_IMAGE_SIZE as MAX_IMAGE_SIZE
from bench.core.workloads import MAX_SEED as MAX_SEED
from bench.core.workloads import MODES as MODES
from bench.core.workloads import TOKEN_FILTERS as TOKEN_FILTERS
from bench.core.workloads import KernelWorkload as KernelWorkload
from bench.core.workloads import ModelWorkload as ModelWorkload
from bench.core.workloads import TaskWorkload as TaskWorkload
from bench.core.workloads import TimedWorkload as TimedWorkload
from bench.core.workloads import Workload as Workload

MAX_THREADS = 1024  # the cores of today's largest machines; many more would exhaust this one
Device = Annotated[
    str,
    like(
        r"cpu|(?!cpu:)[a-z]{1,32}:\d{1,3}", "cpu, or a kind of card and its number, such as cuda:0"
    ),
]

ORIGINAL = "original"
"""Mechanism and entry of a model's cell in which no attention was replaced."""

_LATER_AXES = {f.name: f.default for f in fields(KernelWorkload) if f.default is not MISSING}
"""Axes added after the first records, with the value of those, which does not enter the key."""

_NAMED_IF_SET = ("num_kv_heads", "key_len", "padding", "ragged")  # in a cell's short name


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One mechanism, with its hyperparameters, on one workload and one device.

    Attributes:
        entry: the leaderboard row's label. Not part of `key`: rename freely, measure once.
        mechanism: the registered name; `ORIGINAL` for an unchanged model.
        hyperparameters: all of them, defaults included.
        device: a torch device: ``cpu``, or a card by its kind and number, such as ``cuda:0``.
        plugins: modules to import first, which may register the mechanism.
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
            settings = identity["task_settings"]
            identity["task_settings"] = without_later_settings(self.task.task, settings)
        identity["hyperparameters"] = without_later_hyperparameters(
            self.mechanism, identity["hyperparameters"]
        )
        text = json.dumps(identity, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @property
    def parts(self) -> tuple[Cell, ...]:
        """One cell per layer, if the entry names layers; else this cell alone."""
        layers = self.hyperparameters.get(LAYERS)
        if layers is None:
            return (self,)
        return tuple(replace(self, mechanism=name, hyperparameters=own) for name, own in layers)

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
        """A hash that is equal for all cells that are timed side by side.

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
        """One flat JSON object; `from_dict` is the inverse."""
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
            filters = {name: list(found) for name in FILTERS if (found := w.pop(name))}
            own = {FLAT_NAMES.get(name, name): value for name, value in w.items()}
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
            own = flat | {name: flat[its] for name, its in FLAT_NAMES.items() if its in flat}
            own |= {n: tuple(flat[n]) for n in FILTERS if isinstance(flat.get(n), list)}
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
