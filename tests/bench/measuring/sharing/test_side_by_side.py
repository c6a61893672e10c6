"""Several generators at once: none waits for another, and what is yielded is taken first."""

import threading

import pytest

from bench.core.clock import sleep_s
from bench.measuring.sharing.side_by_side import side_by_side


def test_each_goes_on_while_another_works_and_all_results_come_together():
    first_is_at_work, second_is_done = threading.Event(), threading.Event()

    def first():
        first_is_at_work.set()
        assert second_is_done.wait(30), "the other one had to wait for this one"
        yield 1
        return ["one"]

    def second():
        assert first_is_at_work.wait(30)
        yield 2
        second_is_done.set()
        return ["two"]

    found = []

    def all_of_them():
        results = yield from side_by_side([first(), second()])
        found.extend(results)

    assert list(all_of_them()) == [2, 1]
    assert sorted(found) == ["one", "two"]


def test_a_generator_goes_on_only_when_what_it_made_was_taken():
    stored = []

    def run():
        yield "record"
        assert stored == ["record"], "its lease would be released before the record is on the disk"
        return []

    for record in side_by_side([run()]):
        stored.append(record)


def test_an_error_of_one_comes_after_the_end_of_the_others():
    def fails():
        raise ValueError("of one device")
        yield

    def works():
        yield 1
        yield 2
        return []

    found = []
    with pytest.raises(ValueError, match="of one device"):
        for item in side_by_side([fails(), works()]):
            found.append(item)
    assert found == [1, 2]


def test_whoever_stops_listening_ends_all_of_them():
    made, closed = [], threading.Semaphore(0)

    def run():
        try:
            while True:
                made.append(1)
                yield 1
        finally:
            closed.release()

    items = side_by_side([run(), run()])
    assert next(items) == 1
    while len(made) < 2:  # the second one's item waits to be taken
        sleep_s(0.01)
    items.close()
    assert closed.acquire(timeout=30) and closed.acquire(timeout=30)
    assert len(made) == 2, "one went on though nobody listened"
