"""What cannot be said ends nothing."""

import os
import subprocess
import sys
import textwrap

import bench.streams

LONG = """
    import sys
    from bench.streams import make_streams_unbreakable
    make_streams_unbreakable()
    for number in range(100_000):
        print(number)
    print("done", file=sys.stderr)
"""


def command(text, **environment):
    words = [sys.executable, "-c", textwrap.dedent(text)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(words, env=os.environ | environment, **pipes)


def test_a_reader_that_goes_away_ends_nothing():
    with command(LONG) as process:
        assert process.stdout.readline() == b"0\n"
        process.stdout.close()
        assert process.stderr.read() == b"done\n"
    assert process.returncode == 0


def test_a_character_that_the_terminal_lacks_is_replaced():
    text = "import bench.streams as s; s.make_streams_unbreakable(); print('a … b')"
    with command(text, PYTHONIOENCODING="ascii") as process:
        assert process.stdout.read() == b"a ? b\n"
    assert process.returncode == 0


def test_streams_that_somebody_replaced_are_left_alone(monkeypatch):
    before = object()
    monkeypatch.setattr(sys, "stdout", before)
    bench.streams.make_streams_unbreakable()
    assert sys.stdout is before
