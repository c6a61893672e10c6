"""What cannot be said ends nothing."""

import os
import subprocess
import sys
import textwrap
import threading

import pytest

import bench.app.streams

LONG = """
    import sys
    from bench.app.streams import make_streams_unbreakable
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


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_line_is_read_while_the_command_goes_on(unbuffered):
    text = """
        import sys
        from bench.app.streams import make_streams_unbreakable
        make_streams_unbreakable()
        print("one", file=sys.stderr)
        sys.stdin.readline()
    """
    words = [sys.executable, "-c", textwrap.dedent(text)]
    pipes = {"stdin": subprocess.PIPE, "stderr": subprocess.PIPE}
    environment = os.environ | {"PYTHONUNBUFFERED": unbuffered}
    with subprocess.Popen(words, env=environment, **pipes) as process:
        too_late = threading.Timer(60, process.kill)
        too_late.start()
        assert process.stderr.readline() == b"one\n"
        too_late.cancel()


def test_a_terminal_that_is_closed_ends_nothing():
    text = """
        import signal, sys
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        from bench.app.streams import make_streams_unbreakable
        make_streams_unbreakable()
        print("ready", file=sys.stderr)
        sys.stdin.readline()
        print("nobody reads this")
        sys.stdout.flush()
        print("done", file=sys.stderr)
    """
    ours, theirs = os.openpty()
    words = [sys.executable, "-c", textwrap.dedent(text)]
    with subprocess.Popen(
        words, stdin=subprocess.PIPE, stdout=theirs, stderr=subprocess.PIPE
    ) as process:
        assert process.stderr.readline() == b"ready\n"
        os.close(theirs)
        os.close(ours)
        process.stdin.write(b"go on\n")
        process.stdin.close()
        assert process.stderr.read() == b"done\n"
    assert process.returncode == 0


def test_a_character_that_the_terminal_lacks_is_replaced():
    text = "import bench.app.streams as s; s.make_streams_unbreakable(); print('a … b')"
    with command(text, PYTHONIOENCODING="ascii") as process:
        assert process.stdout.read() == b"a ? b\n"
    assert process.returncode == 0


def test_streams_that_somebody_replaced_are_left_alone(monkeypatch):
    before = object()
    monkeypatch.setattr(sys, "stdout", before)
    bench.app.streams.make_streams_unbreakable()
    assert sys.stdout is before
