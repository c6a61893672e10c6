import re

import pytest

from bench.publishing.document import escape, markdown
from bench.publishing.leaderboard import build_leaderboard
from bench.publishing.markdown import leaderboard_page
from tests import records as made

COLUMNS = ("speedup_over", "latency_s")


def page(records, pictures=()):
    board = build_leaderboard(records, ("uniform", "none"))
    return markdown(leaderboard_page(board, COLUMNS, pictures))


def test_parts_without_content_are_left_out():
    text = page(made.block_records(["nala"]))
    assert re.findall(r"^## (.+)$", text, re.M) == ["Speed and memory", "How to read this"]


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("a|b", r"a\|b"),
        ("a\nb\r\n c", "a b c"),
        ("softmax_explicit", "softmax_explicit"),
        ("_init_ __main__", r"\_init\_ \_\_main\_\_"),
        ("*x* `y` <z>", r"\*x\* \`y\` \<z>"),
        ("back\\slash", r"back\\slash"),
        ("1.83x [1.79, 1.88]", "1.83x [1.79, 1.88]"),
        ("[click](here)", r"[click\](here)"),
    ],
)
def test_text_is_shown_as_it_is(text, escaped):
    assert escape(text) == escaped
