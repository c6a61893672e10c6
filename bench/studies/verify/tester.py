"""Results of pytest, mechanism by mechanism, from a process that a mechanism may end or block."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import attentions
from bench.core.cli.errors import ConfigError
from bench.core.cli.texts import LIMITS, visible
from bench.core.format import format_duration

PASSED, FAILED, SKIPPED = "passed", "failed", "skipped"


@dataclass(frozen=True, kw_only=True)
class Result:
    """Result of a check of a mechanism; `attentions.testing.suite.CheckCase` has the first six.

    Attributes:
        outcome: ``passed``, ``failed``, or ``skipped`` if it cannot be tested here.
        reason: why it failed or was skipped; else None.
        facts: numbers that the check recorded.
        is_last: whether the process ended in it, so that nothing more of the mechanism was tested.
    """

    mechanism: str
    form: str
    claim: str
    check: str
    id: str
    earns: bool
    outcome: str
    reason: str | None = None
    facts: tuple[dict[str, Any], ...] = ()
    is_last: bool = False

    @property
    def words(self) -> str:
        """The reason, printable and bounded."""
        return visible(" ".join((self.reason or "").split()), LIMITS["reason"])


class Tester:
    """One process of pytest for several mechanisms; one that dies is started again for the rest.

    A context manager that ends the process.

    Args:
        names: mechanisms, in the order in which `results` is called.
        options: of pytest.
        limit_s: seconds without a result after which a check counts as failed.
    """

    def __init__(self, names: Sequence[str], options: Sequence[str], limit_s: float) -> None:
        self._names, self._options, self._limit_s = list(names), options, limit_s
        self._process: subprocess.Popen[bytes] | None = None
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - `__exit__` closes it
        self._planned: dict[str, int] | None = None
        self._begun: dict[str, Any] | None = None
        self._lines, self._pipe = b"", -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._end()
        self._log.close()

    def results(self, name: str) -> tuple[Result, ...]:
        """Results of all checks of a mechanism, once the last has ended; none if none applies.

        Raises:
            ConfigError: pytest cannot start.
        """
        if self._process is None:
            self._start(self._names[self._names.index(name) :])
        found: list[Result] = []
        while self._planned is None or name in self._planned:
            line = self._next()
            if line is None and self._begun is None and self._planned is not None:
                self._end()  # it died when the mechanism before had ended
                self._start(self._names[self._names.index(name) :])
            elif line is None:
                return (*found, self._death())
            elif "planned" in line:
                self._planned = line["planned"]
            elif "begins" in line:
                self._begun = line["begins"]
            elif "done" in line:
                self._begun = None
                break
            else:
                found.append(Result(**line | {"facts": tuple(line["facts"])}))
        return tuple(found)

    def _start(self, names: Sequence[str]) -> None:
        self._pipe, end = os.pipe()
        path = os.pathsep.join(folder or os.getcwd() for folder in sys.path)
        environment = {**os.environ, "PYTHONPATH": path, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
        environment.pop("PYTEST_ADDOPTS", None)
        folder = Path(attentions.__file__).parent
        words = (
            *(sys.executable, "-m", "pytest", "--pyargs", "attentions.testing"),
            *("-p", "attentions.testing.plugin", "-p", "no:cacheprovider", "--noconftest"),
            *("-c", os.devnull, f"--rootdir={folder}", "--quiet", "--tb=short"),
            *("--attention", ",".join(names), "--attention-report", f"/dev/fd/{end}"),
            *self._options,
        )
        self._process = subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
            env=environment,
            pass_fds=(end,),
            start_new_session=True,  # Ctrl-C is ours to hear
        )
        os.close(end)
        self._planned = self._begun = None
        self._lines = b""

    def _next(self) -> dict[str, Any] | None:
        """The next line of the report; None if the process ended or was silent for too long."""
        while b"\n" not in self._lines:
            if not select.select([self._pipe], [], [], self._limit_s)[0]:
                return None
            if not (data := os.read(self._pipe, 1 << 16)):
                return None
            self._lines += data
        line, _, self._lines = self._lines.partition(b"\n")
        found: dict[str, Any] = json.loads(line)
        return found

    def _death(self) -> Result:
        """End the process, and say how it ended as the failure of the check that had begun."""
        code = self._end()
        if self._begun is None:
            self._log.seek(0)
            words = visible(self._log.read().decode(errors="replace"), LIMITS["detail"])
            raise ConfigError(f"pytest cannot collect the checks:\n{words}")
        if code is None:
            how = f"gave no result within {format_duration(self._limit_s)}"
        elif code < 0:
            how = f"was killed by {signal.Signals(-code).name}"
        else:
            how = f"ended with exit code {code}"
        return Result(
            **self._begun, outcome=FAILED, reason=f"the process that tested it {how}", is_last=True
        )

    def _end(self) -> int | None:
        """End the process, and its children; returns its exit code, None if it still ran."""
        if (process := self._process) is None:
            return None
        self._process = None
        os.close(self._pipe)
        try:
            code = process.wait(1.0)
        except subprocess.TimeoutExpired:
            code = None
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return code
