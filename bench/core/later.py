"""Settings and hyperparameters that came after the first records, whose keys they leave alone."""

from __future__ import annotations

from typing import Any

LATER_SETTINGS = {"head_norm": False, "linear_std": 0.0, "patience": 0.25, "softmax_layers": 0}
"""Settings of all tasks that came after the first records, with the value that these had."""


def without_later_settings(settings: dict[str, Any]) -> dict[str, Any]:
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
