"""Facts of environments and calibrations, as far as numbers depend on them."""

from __future__ import annotations

from typing import Annotated

from annotated_types import Len
from typing_extensions import TypedDict

from bench.core.cli.limits import Count, Name, Plain, Rate, Size, Text, like

Words = Annotated[dict[Text, Text | None], Len(0, 1000)]


class CeilingFacts(TypedDict):
    """A ceiling of a calibration, as far as numbers are made from it."""

    device: Name
    device_name: Text | None
    dtype: Name
    num_threads: Size | None
    flops_per_s: Rate
    bytes_per_s: Annotated[
        list[Annotated[list[Rate], Len(2, 2)]], Len(1, 100)
    ]  # of so many bytes, a rate


class CalibrationFacts(TypedDict):
    """Facts of a machine that `bench.core.calibration` keeps."""

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
