"""A file of diagnostics, of which any line may be anybody's."""

import json
from typing import Any

import pytest

from bench.core.numbers import LeftOut, Number, Origin, finite, read_lines, write_lines

NUMBER = Number(
    attention="nala", inputs="random", measure="entropy", at="norm 0.5", samples=(0.5, None)
)
LEFT_OUT = LeftOut(attention="gla", inputs="random", why="it needs gates.")
ORIGIN = Origin(command="python -m bench.diagnose", settings=("64 tokens.",), machine="a CPU")


def flat(**changes):
    made: dict[str, Any] = {"attention": "nala", "inputs": "random", "measure": "PSE", "at": ""}
    return json.dumps(made | {"samples": [1.0]} | changes)


def test_what_was_written_is_read(tmp_path):
    path = write_lines(tmp_path / "some.jsonl", [NUMBER, LEFT_OUT], ORIGIN)
    found = read_lines(path)
    assert (found.origin, found.lines, found.bad) == (ORIGIN, (NUMBER, LEFT_OUT), ())
    assert NUMBER.norm == 0.5
    assert read_lines(tmp_path / "none.jsonl").lines == ()


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("nonsense", "it is no JSON object"),
        ('{"attention": "nala"}', "inputs is missing"),
        (flat(samples=[]), "samples is []"),
        (flat(samples=[1e101]), "it must be within 1e100 of 0"),
        (flat(samples=[1.0] * 1001), "samples is"),
        (flat(attention="\x1b[31m"), "it must be printable"),
        ('{"attention": "a", "inputs": "random", "why": 3}', "why is 3"),
        ('{"command": "c", "settings": "s", "machine": "m"}', "settings is 's'"),
    ],
)
def test_a_bad_line_is_named_and_the_others_are_read(line, words, tmp_path):
    path = tmp_path / "some.jsonl"
    path.write_bytes(f"{line}\n\n{flat()}\n".encode("latin-1"))
    found = read_lines(path)
    assert [number.attention for number in found.lines] == ["nala"]
    (said,) = found.bad
    assert said.startswith(f"{path}, line 1 is left out: ") and words in said
    assert said.isprintable()


def test_what_cannot_be_read_back_is_no_number():
    assert [finite(x) for x in (1.0, None, float("inf"), float("nan"), 1e101)] == [
        *(1.0, None, None, None, None)
    ]
