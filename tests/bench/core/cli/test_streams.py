"""A stream that cannot be written to ends nothing."""

import os
import shlex
import subprocess
import sys
import textwrap

import pytest

LONG = """
    import sys
    from bench.core.cli.streams import make_streams_unbreakable
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


def test_a_terminal_that_is_closed_ends_nothing():
    text = """
        import signal, sys
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        from bench.core.cli.streams import make_streams_unbreakable
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
    text = "import bench.core.cli.streams as s; s.make_streams_unbreakable(); print('a … b')"
    with command(text, PYTHONIOENCODING="ascii") as process:
        assert process.stdout.read() == b"a ? b\n"
    assert process.returncode == 0


@pytest.fixture
def out(tmp_path):
    """A store, and where nothing of Python's documentation is left."""
    from bench.core.store import Store
    from tests.records import block_records

    for record in block_records(["softmax", "nala"], num_rounds=3):
        Store(tmp_path, "a").append(record)
    return tmp_path


CLOSED = "<&- >&- 2>&-"
FULL = (">/dev/full", 2, b"Standard output cannot be written (No space left on device)")
SHORT = """
    import sys
    from bench.core.cli.streams import exit_code, make_streams_unbreakable
    make_streams_unbreakable()
    for stream in (sys.stdout, sys.stderr):
        print("words", file=stream)
    sys.exit(exit_code(0))
"""


def ended(words, streams):
    """How a program ends whose streams a shell has redirected."""
    line = f"exec {shlex.join([sys.executable, '-OO', *words])} {streams}"
    return subprocess.run(["sh", "-c", line], capture_output=True, check=False)


@pytest.mark.parametrize(
    ("streams", "code", "words"),
    [FULL, ("2>/dev/full", 2, b""), (">&-", 0, b""), (CLOSED, 0, b"")],
)
def test_a_stream_that_is_closed_or_full_from_the_beginning_is_told_once(streams, code, words):
    done = ended(["-c", textwrap.dedent(SHORT)], streams)
    assert done.returncode == code and words in done.stderr
    assert b"Traceback" not in done.stderr and done.stderr.count(b"Standard") == bool(words)


def test_files_are_written_where_nothing_can_be_said(out):
    # Without docstrings too, as `python -OO` has them.
    assert ended(["-m", "bench.report", f"out={out}", "charts=false"], CLOSED).returncode == 0
    assert (out / "leaderboard.md").stat().st_size and (out / "table.csv").stat().st_size
