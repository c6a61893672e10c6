from bench.measuring.worker.paired import repeating


def test_every_nth_call_does_its_work_twice():
    calls = []
    slowed = repeating(lambda: calls.append(1), 3)
    counts = []
    for _ in range(6):
        slowed()
        counts.append(len(calls))
    assert counts == [1, 2, 4, 5, 6, 8]


def test_without_a_slowdown_the_call_itself_is_timed():
    def call():
        return 7

    assert repeating(call, None) is call
