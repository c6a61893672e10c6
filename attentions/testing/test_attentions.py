"""Tests of the mechanisms that ``--attention`` names, or of all that are registered."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from ..registry import attention_names
from .authors.cases import Goldens
from .run import run
from .suite import CLAIMS, GOLDEN, CheckCase, cases_of

Refused = pytest.Collector.CollectError
"""Shown by pytest as its message alone."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Parametrise by the cases that the command line asks for."""
    cases = _asked(metafunc.config)
    metafunc.parametrize("case", cases, ids=[case.id for case in cases])


def test_attention(case: CheckCase, record_property: Callable[[str, object], None]) -> None:
    """One check of one mechanism."""
    run(case, record_property)


def _asked(config: pytest.Config) -> list[CheckCase]:
    names = _words(config.getoption("attention")) or [*attention_names()]
    claims = _words([config.getoption("attention_claims")]) or [GOLDEN, *CLAIMS]
    if unknown := {*claims} - {GOLDEN, *CLAIMS}:
        known = ", ".join((GOLDEN, *CLAIMS))
        raise Refused(f"--attention-claims {min(unknown)}: the claims are {known}.")
    given = config.getoption("attention_settings")
    try:
        settings = yaml.safe_load(given or "{}")
        if not isinstance(settings, dict):
            raise ValueError(f"--attention-settings {given}: write it as '{{num_features: 64}}'.")
        folder = config.getoption("attention_goldens")
        device = config.getoption("attention_device")
        goldens = Goldens(Path(folder) if folder else None, device)
        cases = [
            case
            for name in dict.fromkeys(names)
            for case in cases_of(name, settings=settings, goldens=goldens)
        ]
    except (ValueError, yaml.YAMLError) as error:
        raise Refused(str(error)) from error
    return [case for case in cases if case.claim in claims]


def _words(given: list[str]) -> list[str]:
    """Words of options that are repeated or separated by commas."""
    return [word for text in given for word in text.split(",") if word]
