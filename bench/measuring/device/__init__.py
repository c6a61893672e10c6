"""Devices: a `Device` hides all that differs between a CPU and a card.

`base` is the interface; any other file here is a class for one kind, found by itself. Nothing else
in bench distinguishes kinds of devices. None of these files imports torch before a method needs it.
"""

from __future__ import annotations

import re

from bench.core.registry import import_all
from bench.measuring.device.base import Clock, Device

__all__ = ["Clock", "Device", "available_devices", "device_named", "first_card"]

import_all(__name__)
KINDS = {kind.kind: kind for kind in Device.__subclasses__()}
"""Classes by the first word of torch's name for a device."""


def is_device_name(word: str) -> bool:
    """Whether a word names a device in a configuration; ``auto`` stands for all devices."""
    cards = "|".join(name for name, kind in KINDS.items() if not kind.shares_cores)
    return re.fullmatch(rf"auto|{'|'.join(KINDS)}|({cards}):[0-9]+", word) is not None


def device_named(name: str) -> Device:
    """The device of a name such as ``cpu``, ``cuda:0`` or ``cuda``, which is the first card.

    Other kinds, such as ``meta``, give a plain `Device`, whose methods know nothing of it.
    """
    return KINDS.get(name.partition(":")[0], Device)(name)


def available_devices() -> tuple[str, ...]:
    """The CPU and every card, by torch's names."""
    return tuple(name for kind in KINDS.values() for name in kind.present())


def first_card() -> Device | None:
    """The first device that is not a CPU; None if there is none."""
    devices = map(device_named, available_devices())
    return next((device for device in devices if not device.shares_cores), None)
