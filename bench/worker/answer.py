"""A request in, an outcome out. Only this file catches broadly, and it keeps the text."""

from __future__ import annotations

import importlib
import traceback
from collections.abc import Callable

from bench.measure.headroom import keep_within_free_memory
from bench.record import Status
from bench.worker.ceiling import ceiling
from bench.worker.channel import Channel
from bench.worker.estimate import estimate
from bench.worker.outcome import Outcome, failed, first_line, is_out_of_memory
from bench.worker.request import Request, device_of
from bench.worker.rounds import probe, rounds
from bench.worker.train import train
from bench.worker.trial import trial
from bench.worker.versus import versus

JOBS: dict[str, Callable[[Request, Channel], Outcome]] = {
    "estimate": estimate,
    "trial": trial,
    "probe": probe,
    "rounds": rounds,
    "versus": versus,
    "train": train,
    "ceiling": ceiling,
}


def answer(request: Request, channel: Channel) -> Outcome:
    """Do a job; whatever goes wrong in it becomes a status."""
    from bench.oracle import Incorrect

    try:
        for plugin in request.get("plugins", ()):
            importlib.import_module(plugin)
        if device_of(request) == "cpu":
            keep_within_free_memory()
        return JOBS[request["job"]](request, channel)
    except Incorrect as error:
        return failed(Status.INCORRECT, str(error))
    except Exception as error:
        text = traceback.format_exc()
        if is_out_of_memory(error):
            return failed(Status.OUT_OF_MEMORY, first_line(error), text)
        return failed(Status.ERROR, f"{type(error).__name__}: {first_line(error)}", text)
