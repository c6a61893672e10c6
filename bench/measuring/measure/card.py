"""State of a CUDA card around a measurement: clocks, power and temperature, from its driver."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from typing import Any

import torch

_FIELDS = {
    "clocks.sm": "sm_clock_mhz",
    "clocks.mem": "memory_clock_mhz",
    "power.draw": "power_w",
    "temperature.gpu": "temperature_c",
}
"""Fields queried from the driver's tool, each with its name in a record."""

_PATIENCE_S = 10


def card_state(device: torch.device, run: Callable[..., Any] = subprocess.run) -> dict[str, float]:
    """Read a card, outside of what is timed.

    Args:
        device: a CUDA device; of another type there is nothing to read.
        run: as `subprocess.run`.

    Returns:
        Of ``sm_clock_mhz``, ``memory_clock_mhz``, ``power_w`` and ``temperature_c`` those that the
        driver gives; none where its tool is not installed.
    """
    if device.type != "cuda":
        return {}
    words = [
        "nvidia-smi",
        f"--id={_identity(device)}",
        f"--query-gpu={','.join(_FIELDS)}",
        "--format=csv,noheader,nounits",
    ]
    try:
        done = run(words, capture_output=True, text=True, timeout=_PATIENCE_S)
    except (OSError, subprocess.TimeoutExpired):
        return {}
    if done.returncode != 0:
        return {}
    values = done.stdout.strip().split(",")
    pairs = zip(_FIELDS.values(), map(_number, values), strict=False)
    return {name: value for name, value in pairs if value is not None}


def before_and_after(before: dict[str, float], after: dict[str, float]) -> dict[str, float]:
    """Two states as one flat mapping, for a record."""
    return {f"{name}_before": value for name, value in before.items()} | {
        f"{name}_after": value for name, value in after.items()
    }


def _identity(device: torch.device) -> str:
    # By its UUID: torch's numbers follow CUDA_VISIBLE_DEVICES, the driver's do not.
    uuid = getattr(torch.cuda.get_device_properties(device), "uuid", None)
    return f"GPU-{uuid}" if uuid else str(device.index or 0)


def _number(word: str) -> float | None:
    try:
        return float(word)
    except ValueError:  # "[N/A]": a card that does not tell
        return None
