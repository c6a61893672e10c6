"""Facts of environments and calibrations that numbers are computed from."""

from __future__ import annotations

from typing import Annotated

from annotated_types import Len
from typing_extensions import TypedDict

from bench.core.cli.limits import Count, Name, Plain, Rate, Size, Text, like

Words = Annotated[dict[Text, Text | None], Len(0, 1000)]


class CeilingFacts(TypedDict):
    """Fields of a calibration's ceiling that numbers are computed from."""

    device: Name
    device_name: Text | None
    dtype: Name
    num_threads: Size | None
    flops_per_s: Rate
    bytes_per_s: Annotated[
        list[Annotated[list[Rate], Len(2, 2)]], Len(1, 100)
    ]  # pairs of a size in bytes and the rate at it


class CalibrationFacts(TypedDict):
    """Fields of a calibration, see `bench.core.calibration`, that numbers are computed from."""

    ceilings: Annotated[list[CeilingFacts], Len(0, 1000)]


class EnvironmentFacts(TypedDict, total=False):
    """Fields of `Environment.to_dict` that anything is computed from."""

    platform: Text
    processor: Text | None
    num_cores: Size
    memory_bytes: Count
    versions: Words
    devices: Words
    allocator: Text | None
    worker_environment: Words
    commit: Annotated[str, like(r"[0-9a-f]{7,64}", "a commit's digits")] | None
    is_dirty: bool | None
    hardware: Plain
    calibration: CalibrationFacts | None
