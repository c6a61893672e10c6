"""Run generators at the same time, in a thread each: one for each device of a host."""

from __future__ import annotations

import queue
import threading
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

_LOOK_S = 0.1
"""Seconds between two checks of a waiting generator whether anybody still listens."""

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True)
class _Made(Generic[T]):
    """An item that a generator yields; the generator goes on once it was taken."""

    item: T
    taken: threading.Event


@dataclass(frozen=True)
class _Ended(Generic[R]):
    """End of a generator, with its return value or the error that it raised."""

    result: list[R]
    error: BaseException | None = None


def side_by_side(runs: Sequence[Generator[T, None, list[R]]]) -> Generator[T, None, list[R]]:
    """Yield the items of all generators as they come; return their results, concatenated.

    When one raises, the others run to their ends before its error is raised. Whoever stops
    listening ends all of them: each is closed once it has made its next item.
    """
    made: queue.SimpleQueue[_Made[T] | _Ended[R]] = queue.SimpleQueue()
    is_over = threading.Event()
    for run in runs:
        threading.Thread(target=_work, args=(run, made, is_over), daemon=True).start()
    results: list[R] = []
    errors: list[BaseException] = []
    num_left = len(runs)
    try:
        while num_left:
            next_one = made.get()
            if isinstance(next_one, _Ended):
                num_left -= 1
                results += next_one.result
                errors += [next_one.error] if next_one.error is not None else []
                continue
            yield next_one.item
            next_one.taken.set()  # not if nobody listens any more: its generator would go on
    finally:
        is_over.set()
    if errors:
        raise errors[0]
    return results


def _work(
    run: Generator[T, None, list[R]],
    made: queue.SimpleQueue[Any],
    is_over: threading.Event,
) -> None:
    try:
        while not is_over.is_set():
            one = _Made(next(run), threading.Event())
            made.put(one)
            while not (one.taken.wait(_LOOK_S) or is_over.is_set()):
                pass
        run.close()
    except StopIteration as end:
        made.put(_Ended(end.value))
    except BaseException as error:
        made.put(_Ended([], error))
