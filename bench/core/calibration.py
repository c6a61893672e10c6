"""Measured ceilings on disk: one file per machine, under ``<out>/calibration/``."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from bench.core.cli.errors import ConfigError
from bench.core.cli.limits import check_shape, parsed
from bench.core.cli.stored_files import read_inside, regular_files
from bench.core.facts import CalibrationFacts
from bench.core.record import Record

Calibration = dict[str, Any]
"""``made_at``, ``fingerprint`` and ``ceilings``: for each device, dtype and number of threads the
fields of `bench.measuring.measure.roofline.Ceiling`, ``device_name`` and ``is_noisy``. Older files
measured `torch.mm` alone, and their ceilings have no ``library``."""


def fingerprint(environment: Mapping[str, Any]) -> dict[str, Any]:
    """Facts of a record's environment that a ceiling depends on."""
    return {
        "processor": environment.get("processor"),
        "num_cores": environment.get("num_cores"),
        "torch": environment.get("versions", {}).get("torch"),
        "allocator": environment.get("allocator"),
        "worker_environment": environment.get("worker_environment"),
    }


def calibration_file(out: Path, environment: Mapping[str, Any]) -> Path:
    """Path of a machine's calibration, whether it exists or not."""
    facts = fingerprint(environment)
    text = json.dumps(facts, sort_keys=True)
    digest = hashlib.sha256(text.encode()).hexdigest()[:8]
    words = re.sub(r"\W+", "-", f"{facts['processor']}-{facts['num_cores']}-cores").strip("-")[:100]
    return out / "calibration" / f"{words.lower()}-{digest}.json"


def read_calibration(out: Path, environment: Mapping[str, Any]) -> Calibration | None:
    """The calibration of a machine; None if there is none.

    Raises:
        ConfigError: the file is damaged.
    """
    path = calibration_file(out, environment)
    try:
        return _read(path)
    except (FileNotFoundError, NotADirectoryError):
        return None


def calibration_files(out: Path) -> list[Path]:
    """The calibrations of all machines, sorted by name.

    Raises:
        ConfigError: one of them is not a regular file.
    """
    return regular_files(out, "calibration/*.json")


def read_calibration_file(path: Path) -> Calibration:
    """Read a calibration.

    Raises:
        ConfigError: the file is missing or damaged.
    """
    try:
        return _read(path)
    except FileNotFoundError as error:
        raise ConfigError(f"{path} is not there any more.") from error


def _read(path: Path) -> Calibration:
    """`read_calibration_file`, but a missing file raises the system's own error."""
    try:
        calibration: Calibration = parsed(read_inside(path.parent.parent, path).decode())
        check_shape(CalibrationFacts, calibration)
    except ValueError as error:
        raise ConfigError(
            f"{path} is not a calibration ({error}). Delete it, and run attnbench calibrate again."
        ) from error
    return calibration


def with_calibration(records: Iterable[Record], out: Path) -> list[Record]:
    """Records, with their machine's calibration added to those that were made before it.

    Raises:
        ConfigError: a calibration is damaged.
    """
    known: dict[Path, Calibration | None] = {}
    completed = []
    for record in records:
        facts = record.environment
        if facts.get("calibration") is None:
            path = calibration_file(out, facts)
            if path not in known:
                known[path] = read_calibration(out, facts)
            if known[path] is not None:
                record = replace(record, environment=facts | {"calibration": known[path]})
        completed.append(record)
    return completed
