from bench.publishing.growth import thread_sections
from bench.publishing.leaderboard import build_leaderboard
from tests import records as made


def timed(entry, num_threads, seconds, rounds_key="one"):
    cell = made.kernel_cell(entry, num_threads=num_threads)
    return made.ok_record(cell, made.speed([seconds] * 8, rounds_key=rounds_key))


def test_two_threads_stand_over_one_where_the_same_rounds_timed_both():
    records = [
        timed("nala", 1, 3.0),
        timed("nala", 2, 2.0),
        timed("linear", 1, 3.0),
        timed("linear", 2, 1.5),
        timed("flatten", 1, 3.0, "another"),
        timed("flatten", 2, 2.0),
        timed("agent", 2, 2.0),
    ]
    board = build_leaderboard(records)
    (section,) = thread_sections(board)
    (table,) = section.tables
    assert "More threads · cpu · float32" in section.title
    assert table.header == ("entry", "2 threads over 1")
    assert table.texts() == (("linear", "2.00x"), ("nala", "1.50x"))
