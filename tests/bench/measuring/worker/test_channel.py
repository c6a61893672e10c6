import json
import socket

import pytest

from bench.measuring.worker import channel as room
from bench.measuring.worker.channel import Channel


class Ended(Exception):
    """Instead of the end of this process."""


@pytest.fixture
def ends(monkeypatch):
    def exit_with(code):
        raise Ended(code)

    monkeypatch.setattr(room.os, "_exit", exit_with)


@pytest.fixture
def sockets():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


def test_requests_are_read_line_by_line(sockets):
    ours, theirs = sockets
    ours.sendall(b'{"job": "trial"}\n{"job": "probe"}\n')
    channel = Channel(theirs)
    assert channel.read() == {"job": "trial"}
    assert channel.is_stop_asked(), "a stop may come right after a request"
    assert channel.read() == {"job": "probe"} and not channel.is_stop_asked()


def test_a_stop_is_asked_by_a_line_or_by_leaving(sockets):
    ours, theirs = sockets
    channel = Channel(theirs)
    assert not channel.is_stop_asked()
    ours.sendall(b"stop\n")
    assert channel.is_stop_asked()
    theirs.recv(100)
    assert not channel.is_stop_asked()
    ours.close()
    assert channel.is_stop_asked()


def test_without_a_listener_the_process_ends(sockets, ends):
    ours, theirs = sockets
    ours.close()
    channel = Channel(theirs)
    with pytest.raises(Ended):
        channel.read()
    with pytest.raises(Ended):
        for _ in range(2):  # the first may still fit into a buffer
            channel.send(step="build")


def test_a_question_waits_until_it_is_heard_and_a_stop_before_it_is_not_lost(sockets):
    ours, theirs = sockets
    channel = Channel(theirs)
    ours.sendall(b'{"heard": true}\n')
    channel.ask(step="rounds")
    assert json.loads(ours.recv(100)) == {"step": "rounds", "waits": True}
    assert not channel.is_stop_asked()
    ours.sendall(b'{"stop": true}\n{"heard": true}\n')
    channel.ask(step="rounds")
    assert channel.is_stop_asked(), "though nothing is left to be read"
    ours.sendall(b'{"stop": true}\n{"heard": true}\n{"job": "trial"}\n')
    channel.ask(step="rounds")
    assert channel.read() == {"job": "trial"}
