"""From a request to an outcome: runs the job, and turns every exception into a status."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from typing import Any

from bench.core.record import Status
from bench.measuring.device import device_named
from bench.measuring.worker.build import build, estimate
from bench.measuring.worker.ceiling import ceiling
from bench.measuring.worker.channel import Channel
from bench.measuring.worker.imports import import_plugins, refuse_changed
from bench.measuring.worker.outcome import JobFailed, Outcome, first_line
from bench.measuring.worker.paired import paired_rounds
from bench.measuring.worker.request import Request, device_of
from bench.measuring.worker.results import Result
from bench.measuring.worker.rounds import probe, rounds
from bench.measuring.worker.train import train
from bench.measuring.worker.trial import trial

JOBS: dict[str, Callable[[Request, Channel], Result]] = {
    "build": build,
    "estimate": estimate,
    "trial": trial,
    "probe": probe,
    "rounds": rounds,
    "paired_rounds": paired_rounds,
    "train": train,
    "ceiling": ceiling,
}


def answer(request: Request, channel: Channel) -> Outcome[Any]:
    """Do a job; every exception becomes a status, an unexpected one with its traceback."""
    from bench.measuring.oracle.oracle import Incorrect

    try:
        import_plugins(request.get("plugins", ()))
        refuse_changed(request)
        device_named(device_of(request)).limit_memory()
        return Outcome(status=Status.OK, result=JOBS[request["job"]](request, channel))
    except Incorrect as error:
        return Outcome(status=Status.INCORRECT, reason=str(error))
    except JobFailed as error:
        return Outcome(status=error.status, reason=str(error))
    except BaseException as error:  # workers ignore SIGINT: the mechanism itself raised this
        text = traceback.format_exc()
        if device_named(device_of(request)).is_out_of_memory(error):
            return Outcome(status=Status.OUT_OF_MEMORY, reason=first_line(error), detail=text)
        reason = f"{type(error).__name__}: {first_line(error)}"
        return Outcome(status=Status.ERROR, reason=reason, detail=text)
