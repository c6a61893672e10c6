"""Machine, versions and commit of a measurement, and hashes of those that make a number stale."""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import platform
import subprocess
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import bench
from bench.core.cell import ORIGINAL, Cell, TaskWorkload
from bench.core.cli.errors import ConfigError
from bench.core.observed import CONTROLS
from bench.core.places import CHECKOUT
from bench.core.record import METHOD_VERSION, TRAINING_VERSION, Quality, Record
from bench.core.sources import hash_closure, hash_syntax, hashed
from bench.measuring.device import device_named
from bench.measuring.device.cpu import memory_limit_bytes
from bench.measuring.machine import hardware
from bench.measuring.tasks.ending import may_leave

_LIBRARIES = ("torch", "numpy", "hydra-core", "wandb", "fvcore", "opt_einsum", "triton", "timm")


@dataclass(frozen=True, kw_only=True)
class Environment:
    """The machine and the software of a sweep.

    Attributes:
        processor: the model's name, with family and model if it has no number, and its vector
            instructions if they are narrow.
        num_cores: number of cores that this process may use.
        memory_bytes: memory of the machine, or of the container if that is less.
        versions: versions of Python and of libraries that can move a number; None if absent.
        devices: name of each measured device, by torch's name for it.
        allocator: the workers' allocator setting, ``retain`` or ``default``.
        worker_environment: environment variables that workers are started with.
        commit: commit of the project's checkout; None outside of one.
        is_dirty: whether tracked files differ from that commit; None outside of a checkout, or
            if git does not tell.
        hardware: further facts of the machine, see
            `bench.measuring.machine.hardware.describe`.
        calibration: the machine's ceilings, see `bench.core.calibration`; None without any.
    """

    platform: str
    processor: str
    num_cores: int
    memory_bytes: int
    versions: dict[str, str | None]
    devices: dict[str, str]
    allocator: str
    worker_environment: dict[str, str]
    commit: str | None
    is_dirty: bool | None
    hardware: dict[str, Any] = field(default_factory=dict)
    calibration: dict[str, Any] | None = None

    def to_dict(self) -> dict[str, Any]:
        """The fields as they are stored in each record."""
        return asdict(self)


def current(devices: tuple[str, ...], allocator: str, worker_env: dict[str, str]) -> Environment:
    """Describe this machine and this checkout."""
    commit, is_dirty = _git(CHECKOUT)
    return Environment(
        platform=platform.platform(),
        processor=device_named("cpu").title,
        num_cores=_num_cores(),
        memory_bytes=memory_limit_bytes(),
        versions={n: _version(n) for n in _LIBRARIES} | {"python": platform.python_version()},
        devices={name: device_named(name).title for name in devices},
        allocator=allocator,
        worker_environment=worker_env,
        commit=commit,
        is_dirty=is_dirty,
        hardware=hardware.describe(devices),
    )


def freshness(cell: Cell, environment: Environment) -> str:
    """Hash of what a timing depends on: source, method, torch, device, processor, allocator.

    A timed cell counts as measured here already if a record has both its key and this hash. A
    training run depends on less, see `is_good`.
    """
    if cell.is_task:
        return hashed(["training", TRAINING_VERSION, *_own_files(cell)])
    around = ""
    if cell.is_model:
        around = f"{model_source(cell.model.model)} timm {environment.versions.get('timm')}"
    parts = [
        "" if cell.mechanism == ORIGINAL else mechanism_source(cell.mechanism, cell.plugins),
        around,
        METHOD_VERSION,
        *_home(cell.device, environment),
    ]
    return hashed(parts)


def is_good(record: Record, cell: Cell, environment: Environment) -> bool:
    """Whether a record stands for a measurement of a cell here and now.

    A trained score holds on any machine, as long as examples, model, recipe and scoring are the
    same (`TRAINING_VERSION`), and a plugin's source and the files that a task reads are unchanged.
    A run that a plateau ended at chance or at a partial solution is not good: today it would go on.
    """
    if record.cell.key != cell.key:
        return False
    if record.freshness == freshness(cell, environment):
        return True
    if not cell.is_task or record.training_version != TRAINING_VERSION or _own_files(cell):
        return False
    result = record.result
    if not isinstance(result, Quality) or cell.mechanism in CONTROLS:
        return True
    if result.ended != "plateau" or result.unit or not result.validation:
        return True
    levels = {"chance": result.chance} | result.plateaus
    return not may_leave(result.validation[-1], levels, result.validation_error or 0.0)


def source_of_training(cell: Cell, environment: Environment) -> str:
    """Hash of all code, data and libraries of a run; a checkpoint of another hash is not used."""
    parts = [
        "".join(mechanism_source(each.mechanism, each.plugins) for each in cell.parts),
        task_source(cell.task.task) + _data_hash(cell.task),
        TRAINING_VERSION,
        *_home(cell.device, environment),
    ]
    return hashed(parts)


def _own_files(cell: Cell) -> tuple[str, ...]:
    """Hashes of what no version number covers: a plugin's source, and the files a task reads."""
    from bench.measuring.tasks.base import task_class

    found = [
        mechanism_source(each.mechanism, each.plugins)
        for each in cell.parts
        if is_foreign(each.mechanism, each.plugins)
    ]
    if not task_class(cell.task.task).__module__.startswith(f"{bench.__name__}."):
        found.append(task_source(cell.task.task))
    if data := _data_hash(cell.task):
        found.append(data)
    return tuple(found)


def kind_of_machine(device: str, environment: Environment) -> str:
    """Hash shared by machines whose numbers are interchangeable for a device."""
    return hashed(_home(device, environment))[:8]


def _home(device: str, environment: Environment) -> list[str | None]:
    return [
        environment.versions["torch"],
        environment.devices.get(device, device),
        environment.processor,
        environment.allocator,
    ]


@cache
def is_foreign(name: str, plugins: tuple[str, ...]) -> bool:
    """Whether a mechanism comes from a plugin, not from the library or this package."""
    for plugin in plugins:
        importlib.import_module(plugin)
    import attentions

    module: str = attentions.attention_class(name).__module__
    return not module.startswith((f"{attentions.__name__}.", f"{bench.__name__}."))


@cache
def mechanism_source(name: str, plugins: tuple[str, ...]) -> str:
    """Hash of a mechanism's files: its module, and all modules that it imports relatively."""
    for plugin in plugins:
        importlib.import_module(plugin)
    import attentions

    return hash_closure(attentions.attention_class(name).__module__)


@cache
def mechanism_syntax(name: str) -> str:
    """Hash of what a mechanism's files say, see `hash_syntax`; its plugin must be imported."""
    import attentions

    return hash_syntax(attentions.attention_class(name).__module__)


@cache
def task_source(name: str) -> str:
    """Hash of a task's files: its module, those that it imports, and the shared training loop."""
    from bench.measuring.tasks.base import task_class

    return hash_closure(task_class(name).__module__) + hash_closure("bench.measuring.tasks.train")


def _data_hash(workload: TaskWorkload) -> str:
    """Hash of the files that a task reads its examples from; empty if there are none."""
    from bench.measuring.tasks.base import task_to_plan

    digest = hashlib.sha256()
    task = task_to_plan(workload.task, workload.settings)
    files = task.files() if task else ()
    # A folder may be a class: who moves a file changes its label, and neither content nor order.
    has_folders = len({path.parent for path in files}) > 1
    for path in files:
        if has_folders:
            digest.update(ascii((path.parent.parent.name, path.parent.name)).encode())
        try:
            digest.update(_content_hash(path, path.stat().st_mtime_ns).encode())
        except OSError as error:
            raise ConfigError(
                f"{path}, which {workload.task} reads, cannot be opened: {error.strerror}. "
                "Copy it again, or take it out of the folder."
            ) from error
    return digest.hexdigest()[:16] if files else ""


@cache
def _content_hash(path: Path, _changed_ns: int) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@cache
def model_source(name: str) -> str:
    """Hash of a model's files: all of our models, what these import, and a user's own file.

    Files that the user's file imports or loads, such as trained weights, are not covered.
    """
    from attentions import models

    digest = hashlib.sha256()
    for path in sorted(Path(models.__path__[0]).glob("*.py")):
        digest.update(hash_closure(f"attentions.models.{path.stem}").encode())
    if name not in models.model_names():
        digest.update(Path(name.rpartition(":")[0]).expanduser().read_bytes())
    elif mechanism := models.model_info(name).mechanism:
        digest.update(mechanism_source(mechanism, ()).encode())
    return digest.hexdigest()[:16]


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _num_cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _git(folder: Path) -> tuple[str | None, bool | None]:
    def git(*words: str) -> str | None:
        try:
            done = subprocess.run(
                ["git", "-C", str(folder), *words], capture_output=True, text=True, timeout=10
            )
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    commit = git("rev-parse", "HEAD")
    if (
        commit is None
        or git("ls-files", "bench/measuring/machine/environment.py")
        != "bench/measuring/machine/environment.py"
    ):
        return None, None  # not a checkout, or installed inside somebody else's
    changed = git("status", "--porcelain", "--untracked-files=no")
    return commit, None if changed is None else bool(changed)
