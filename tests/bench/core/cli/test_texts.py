import pytest

from bench.core.cli.texts import said_by, visible


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("plain\n\tÄ 中 🙂", "plain\n\tÄ 中 🙂"),
        ("\x1b[2J\x07\r\0", "\\x1b[2J\\x07\\r\\x00"),
        ("half \ud800 pair", "half \\ud800 pair"),
        ("abc\u202edef", "abc\\u202edef"),  # would turn the order of what follows
        ("\u2028\x85", "\\u2028\\x85"),  # lines to Python, and to nobody else
    ],
)
def test_what_cannot_be_seen_is_written_as_python_writes_it(text, seen):
    assert visible(text, 100) == seen
    assert visible(seen, 100) == seen


def test_of_a_long_text_both_ends_are_kept_and_its_length_is_told():
    short = visible("begin" + "x" * 10**7 + "end", 100)
    assert len(short) == 100
    assert short.startswith("begin") and short.endswith("end")
    assert "10,000,008 characters" in short


def test_the_bound_holds_for_texts_that_grow_when_they_are_made_visible():
    assert [len(visible("\ud800" * count, 1000)) for count in (500, 10**5)] == [1000, 1000]


def test_an_error_whose_words_raise_says_nothing():
    class Mute(Exception):
        def __str__(self):
            raise SystemExit

    assert (said_by(Mute()), said_by(KeyError("x"))) == ("", "'x'")
