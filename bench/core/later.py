"""Settings and hyperparameters added after the first records, whose keys must not change."""

from __future__ import annotations

from typing import Any

LATER_SETTINGS = {"head_norm": False, "linear_std": 0.0, "patience": 0.25, "softmax_layers": 0}
"""Settings of all tasks added after the first records, with the value that those had."""


def without_later_settings(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings of a task, without later ones that have the value of records that lack them."""
    later = LATER_SETTINGS.items()
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
