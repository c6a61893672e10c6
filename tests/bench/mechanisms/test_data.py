"""The file of samples: whole, continued by its like, and not by another."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from bench.app.errors import ConfigError
from bench.machine.environment import Environment
from bench.mechanisms.data import FILE, Session, begin, new_session, read_measured
from bench.mechanisms.units import id_of
from tests.bench.mechanisms.runs import measured, pair_lines, place
from tests.records import ENVIRONMENT

HERE = Environment(**ENVIRONMENT)


def session(mechanisms: list[str] | None = None, **settings: int) -> Session:
    return new_session({"retain": HERE}, dict(settings), mechanisms or ["nala"], "typed")


def test_a_line_is_on_the_disk_at_once_and_comes_back(tmp_path: Path) -> None:
    data = begin(tmp_path, session(), fresh=False)
    first, second = pair_lines(place(), 0.5, 2.0, 1.0)
    data.add(first)
    assert read_measured(tmp_path).lines == [first]
    data.add(second)
    data.add(first | {"wall_s": 2.0})
    stored = read_measured(tmp_path)
    assert stored.lines == [second, first | {"wall_s": 2.0}], "a unit has one line"
    assert stored.session == data.session


def test_the_same_session_goes_on_and_another_begins_anew(tmp_path: Path) -> None:
    (line, _) = pair_lines(place(), 0.5, 2.0, 1.0)
    begin(tmp_path, session(), fresh=False).add(line)
    assert begin(tmp_path, session(), fresh=False).done == {id_of(line)}
    assert begin(tmp_path, session(), fresh=True).done == set()
    assert begin(tmp_path, session(min_rounds=7), fresh=False).done == set()
    assert begin(tmp_path, session(["linear"]), fresh=False).done == set()


def test_another_machine_has_another_identity_and_another_commit_has_not() -> None:
    elsewhere = new_session({"retain": replace(HERE, num_cores=64)}, {}, ["nala"], "typed")
    later = new_session({"retain": replace(HERE, commit="1" * 40)}, {}, ["nala"], "typed")
    assert elsewhere.identity != session().identity == later.identity


def test_what_failed_is_tried_again() -> None:
    line, other = pair_lines(place(), 0.5, 2.0, 1.0)
    assert measured(line | {"reason": "crashed"}, other).done == {id_of(other)}


def test_a_missing_or_damaged_file_is_a_mistake_with_a_way_out(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="make bench-mechanisms"):
        read_measured(tmp_path)
    (tmp_path / FILE).write_text('{"session": ')
    with pytest.raises(ConfigError, match=r"is damaged .* Move it away"):
        read_measured(tmp_path)
