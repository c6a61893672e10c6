"""Files of JSON lines: what is written is read again, and what is none is named with its line."""

import json
import resource
from dataclasses import dataclass
from typing import Annotated

import pytest
from annotated_types import Interval

from bench.core.cli.errors import ConfigError
from bench.core.lines import Lines


@dataclass(frozen=True, kw_only=True)
class Point:
    """One number a seed."""

    attention: str
    rank: Annotated[tuple[float, ...], "numbers"]
    share: Annotated[float, Interval(ge=0, le=1)] | None = None


@dataclass(frozen=True, kw_only=True)
class LeftOut:
    """Why there is no point."""

    attention: str
    why: str


ONE = Point(attention="nala", rank=(1.0, 2.5))
NONE = LeftOut(attention="gla", why="it is causal")


def test_what_is_written_and_appended_is_read_again(tmp_path):
    lines = Lines[Point | LeftOut](tmp_path / "deep" / "points.jsonl", Point | LeftOut)
    assert lines.read(missing_ok=True) == []
    lines.append(ONE)
    lines.append(NONE, ONE)
    assert lines.read() == [ONE, NONE, ONE]
    assert json.loads(lines.path.read_text().splitlines()[0]) == {
        "attention": "nala", "rank": [1.0, 2.5], "share": None
    }  # fmt: skip
    lines.write([NONE])
    assert lines.read() == [NONE]


def test_a_blank_line_and_a_key_of_a_later_version_are_passed_over(tmp_path):
    path = tmp_path / "points.jsonl"
    path.write_text('\n{"attention": "nala", "rank": [1, 2.5], "later": 3}\n')
    assert Lines[Point](path, Point).read() == [ONE]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('{"attention": "a"}', "rank is missing"),
        ('{"attention": 1, "rank": []}', "attention is 1; it should be a valid string"),
        ('{"attention": "a", "rank": [1, "x"]}', "rank.1 is 'x'; it should be a valid number"),
        ('{"attention": "a", "rank": [], "share": 2}', "share is 2; it should be less than"),
        ('{"attention": "a", "rank": [NaN]}', "NaN is not a number"),
        ('{"attention": "a", "attention": "b", "rank": []}', "'attention' is given twice"),
        ("[1]", "it is no JSON object"),
        ('{"attention"', "it is no JSON object"),
    ],
)
def test_what_is_no_line_is_refused_by_file_and_number(tmp_path, text, why):
    lines = Lines[Point](tmp_path / "points.jsonl", Point)
    lines.write([ONE])
    with lines.path.open("a") as file:
        file.write(f"{text}\n")
    with pytest.raises(ConfigError) as caught:
        lines.read()
    assert str(caught.value).startswith(f"{lines.path}:2 is no Point: {why}")
    (first, found), (second, error) = lines.each()
    assert (first, found, second) == (1, ONE, 2) and why in str(error)


@pytest.mark.parametrize("torn", ['{"attention": "nala", "ra', "{", "\0\0\0"])
def test_a_torn_last_line_is_named_and_gone_when_another_is_appended(tmp_path, capsys, torn):
    lines = Lines[Point](tmp_path / "points.jsonl", Point)
    lines.append(ONE)
    with lines.path.open("a") as file:
        file.write(torn)
    assert lines.read() == [ONE]
    assert "points.jsonl:2 is left out: a crash has cut it short." in capsys.readouterr().err
    lines.append(ONE)
    assert lines.read() == [ONE, ONE] and capsys.readouterr().err == ""


def test_a_last_line_without_its_end_gets_it(tmp_path):
    lines = Lines[Point](tmp_path / "points.jsonl", Point)
    lines.path.write_text(lines.text([ONE]).rstrip("\n"))
    lines.append(ONE)
    assert lines.read() == [ONE, ONE]


def test_a_full_disk_leaves_no_half_line(tmp_path):
    lines = Lines[Point](tmp_path / "points.jsonl", Point)
    lines.append(ONE)
    before = lines.path.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 5, limits[1]))
    try:
        with pytest.raises(ConfigError, match="cannot be written: File too large"):
            lines.append(ONE)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert lines.path.read_bytes() == before
