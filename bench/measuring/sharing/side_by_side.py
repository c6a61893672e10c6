"""Run generators at the same time, in a thread each: one for each device of a host."""

from __future__ import annotations

import queue
import threading
from collections.abc import Generator, Sequence
from typing import TypeVar

_LOOK_S = 0.1
"""Seconds between two checks of a waiting generator whether anybody still listens."""

T = TypeVar("T")
R = TypeVar("R")


def side_by_side(runs: Sequence[Generator[T, None, list[R]]]) -> Generator[T, None, list[R]]:
    """Yield the items of all generators as they come; return their results, concatenated.

    When one raises, the others run to their ends before its error is raised. Whoever stops
    listening ends all of them: each is closed once it has made its next item.
    """
    made = queue.SimpleQueue[tuple[T, threading.Event] | None]()  # None where a generator ends
    is_over = threading.Event()
    results: list[R] = []
    errors: list[BaseException] = []

    def work(run: Generator[T, None, list[R]]) -> None:
        try:
            while not is_over.is_set():
                taken = threading.Event()
                made.put((next(run), taken))
                while not (taken.wait(_LOOK_S) or is_over.is_set()):
                    pass
            run.close()
        except StopIteration as end:
            results.extend(end.value)
        except BaseException as error:
            errors.append(error)
        made.put(None)

    for run in runs:
        threading.Thread(target=work, args=(run,), daemon=True).start()
    num_left = len(runs)
    try:
        while num_left:
            if (one := made.get()) is None:
                num_left -= 1
                continue
            yield one[0]
            one[1].set()  # not if nobody listens any more: its generator would go on
    finally:
        is_over.set()
    if errors:
        raise errors[0]
    return results
