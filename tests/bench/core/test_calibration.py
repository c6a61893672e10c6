from dataclasses import replace

import pytest

from bench.core.calibration import calibration_file, read_calibration, with_calibration
from bench.core.cli.errors import ConfigError
from tests import records as made


def write(out, text='{"ceilings": []}', **environment):
    path = calibration_file(out, made.ENVIRONMENT | environment)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_a_calibration_is_found_again_by_what_it_depends_on(tmp_path):
    write(tmp_path)
    assert read_calibration(tmp_path, made.ENVIRONMENT) == {"ceilings": []}
    same = made.ENVIRONMENT | {"commit": "1" * 40, "is_dirty": True, "devices": {}}
    assert read_calibration(tmp_path, same) == {"ceilings": []}


@pytest.mark.parametrize(
    "change",
    [
        {"processor": "Imaginary 9001"},
        {"num_cores": 4},
        {"allocator": "default"},
        {"versions": {"torch": "2.14.0"}},
        {"worker_environment": {}},
    ],
)
def test_another_machine_has_another_file(tmp_path, change):
    write(tmp_path)
    assert read_calibration(tmp_path, made.ENVIRONMENT | change) is None


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"ceilings": 3}'])
def test_a_damaged_file_is_named(tmp_path, text):
    path = write(tmp_path, text)
    with pytest.raises(ConfigError, match=path.name):
        read_calibration(tmp_path, made.ENVIRONMENT)


def test_records_made_before_the_calibration_get_it_and_others_keep_theirs(tmp_path):
    write(tmp_path)
    old = made.block_records(["nala"])[0]
    own = replace(old, environment=made.ENVIRONMENT | {"calibration": {"ceilings": ["own"]}})
    none = replace(old, environment=made.ENVIRONMENT | {"calibration": None})
    other = replace(old, environment=made.ENVIRONMENT | {"processor": "Imaginary 9001"})
    found = with_calibration([old, own, none, other], tmp_path)
    assert [r.environment.get("calibration") for r in found] == [
        {"ceilings": []},
        {"ceilings": ["own"]},
        {"ceilings": []},
        None,
    ]
    assert old.environment == made.ENVIRONMENT, "what was read is left as it was"
