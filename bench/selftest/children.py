"""Other Python processes: started so that they find what this one finds, ended with this one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import IO, Any

from bench.measure.clock import now_s
from bench.worker.jobs import TICK_S, Interrupt, Interrupted

_TAIL = 2000


def start(
    words: Sequence[str], environment: Mapping[str, str], *, stdout: Any, stderr: Any = None
) -> subprocess.Popen[bytes]:
    """Start ``python WORDS`` with a few more variables; Ctrl-C does not reach it."""
    paths = os.pathsep.join(p or os.getcwd() for p in sys.path)
    return subprocess.Popen(
        [sys.executable, *words],
        env=os.environ | {"PYTHONPATH": paths, **environment},
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=stderr,
        start_new_session=True,
    )


def run(
    words: Sequence[str],
    environment: Mapping[str, str],
    log: IO[bytes],
    *,
    timeout_s: float,
    interrupt: Interrupt,
) -> int:
    """The exit code of ``python WORDS``, whose words go to `log`.

    Raises:
        Interrupted: on Ctrl-C; the process has been killed.
        RuntimeError: it took too long, and has been killed.
    """
    process = start(words, environment, stdout=log, stderr=subprocess.STDOUT)
    ends = now_s() + timeout_s
    try:
        while True:
            with suppress(subprocess.TimeoutExpired):
                return process.wait(TICK_S)
            if interrupt.is_asked:
                raise Interrupted
            if now_s() > ends:
                raise RuntimeError(f"python {' '.join(words[:3])} … took over {timeout_s:g} s.")
    finally:
        if process.poll() is None:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def last_words(log: IO[bytes]) -> str:
    """The end of what a process said."""
    log.seek(0)
    return log.read().decode(errors="replace")[-_TAIL:].strip()
