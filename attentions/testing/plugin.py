"""Options of pytest for the checks of mechanisms, and a report of them as lines of JSON.

An entry point of the wheel loads this module in every run of pytest, so it imports no torch.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from .suite import CheckCase


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options of ``pytest --pyargs attentions.testing``."""
    add = parser.getgroup(
        "attentions", "attention mechanisms (--pyargs attentions.testing)"
    ).addoption
    add(
        "--attention",
        action="append",
        default=[],
        metavar="NAMES",
        help="mechanisms to test, separated by commas; all if none is named",
    )
    add("--attention-claims", default="", metavar="CLAIMS", help="test these claims alone")
    add(
        "--attention-settings",
        metavar="YAML",
        help="hyperparameters in place of the defaults, such as '{num_features: 64}'",
    )
    add("--attention-goldens", metavar="DIR", help="golden files in place of the package's own")
    add("--attention-device", default="cpu", metavar="DEVICE", help="compare golden files there")
    add("--attention-report", metavar="FILE", help="append each result as a line of JSON")


def pytest_configure(config: pytest.Config) -> None:
    """Start the report if one is asked for."""
    if file := config.getoption("attention_report"):
        config.pluginmanager.register(Report(Path(file)))


class Report:
    """Lines of JSON: ``planned``, then ``begins`` and a result per check, and ``done``.

    ``planned`` counts the checks of each mechanism; ``done`` says that all of a mechanism's have
    ended. Every line is written at once, so that a reader knows what ran when the process died.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("a", encoding="utf-8", buffering=1)

    def _write(self, **line: Any) -> None:
        self._file.write(json.dumps(line) + "\n")

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Tell which mechanisms will be tested; nothing if that cannot be said."""
        if session.testsfailed:
            return
        cases = [case for case in map(_case, session.items) if case]
        self._write(planned=Counter(case.mechanism for case in cases))

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(
        self, item: pytest.Item, nextitem: pytest.Item | None
    ) -> Generator[None, object, object]:
        """Tell when a check begins, and when a mechanism has no more."""
        case, following = _case(item), _case(nextitem)
        if case:
            self._write(begins=_named(case))
        ended = yield
        if case and (following is None or following.mechanism != case.mechanism):
            self._write(done=case.mechanism)
        return ended

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Tell how a check ended."""
        report = yield
        case = _case(item)
        if case and call.when == "call":
            error = call.excinfo and call.excinfo.value
            facts = [value for _, value in item.user_properties]
            self._write(**_named(case), outcome=report.outcome, reason=_words(error), facts=facts)
        return report


def _case(item: pytest.Item | None) -> CheckCase | None:
    from .suite import CheckCase

    parameters = getattr(item, "callspec", None)
    case = parameters.params.get("case") if parameters else None
    return case if isinstance(case, CheckCase) else None


def _named(case: CheckCase) -> dict[str, Any]:
    return {
        name: getattr(case, name) for name in ("mechanism", "form", "claim", "check", "id", "earns")
    }


def _words(error: BaseException | None) -> str | None:
    """Reason of a failure or a skip, with the type of an error that is not the check's own."""
    from .check import Broken

    if error is None:
        return None
    is_told = isinstance(error, Broken | pytest.skip.Exception)
    return str(error) if is_told else f"{type(error).__name__}: {error}".removesuffix(": ")
