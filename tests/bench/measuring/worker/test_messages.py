"""Whatever comes over a worker's socket is a message, or is told to be none."""

import json

import pytest

from bench.measuring.worker.messages import NoMessage, message_from

OURS = (
    {"step": "build", "asked": 3},
    {"step": "rounds", "waits": True},
    {"round": [1e-6, 2e-6]},
    {"ratio": 1.01},
    {"refused": "no"},
    {"progress": ["train", 1, 10, float("nan"), None]},
    {"status": "ok", "reason": None, "detail": None, "result": {"measured_s": 0.0}},
)
FOREIGN = (
    *("", "[1]", "null", "{", "[" * 100_000, '{"round": [' + "9" * 5000 + "]}"),
    *('{"step": 5}', '{"step": "\\u001b[2J"}', '{"asked": -1}', '{"round": []}', '{"x": 1}'),
    *('{"round": ["a"]}', '{"round": 3}', '{"progress": ["train"]}', '{"waits": "yes"}'),
    *('{"status": "ok", "result": {}, "reason": null}', '{"status": "ok"}', '{"ratio": null}'),
)


@pytest.mark.parametrize("message", OURS, ids=lambda message: next(iter(message)))
def test_a_message_of_ours_is_what_was_sent(message):
    came = message_from(json.dumps(message).encode())
    assert json.dumps(came) == json.dumps(message)


@pytest.mark.parametrize("line", [*(line.encode() for line in FOREIGN), b"\xff\x00"], ids=range(19))
def test_whatever_else_comes_is_none(line):
    with pytest.raises(NoMessage, match="invalid message"):
        message_from(line)
