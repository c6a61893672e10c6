import pytest

from bench.core.cli.errors import ConfigError
from bench.studies.verify.settings import Verify
from tests.bench.studies.verify.goldens import PUBLIC, config


def test_without_a_golden_folder_the_projects_own_is_taken(monkeypatch, tmp_path):
    given = {"golden": None, "attention": None, "out": "verify.json", "plugins": []}
    monkeypatch.chdir(tmp_path)
    assert Verify.read(given).goldens == PUBLIC
    monkeypatch.setattr("bench.studies.verify.settings.CHECKOUT", tmp_path / "installed")
    with pytest.raises(ConfigError, match="golden=DIR"):
        _ = Verify.read(given).goldens
    (tmp_path / "tests" / "golden").mkdir(parents=True)
    assert Verify.read(given).goldens.resolve() == (tmp_path / "tests" / "golden").resolve()


def test_entries_stand_for_their_mechanisms():
    entries = {
        "performer_m64": {"mechanism": "performer", "num_features": 64},
        "performer": {"mechanism": "performer"},
    }
    given = {"golden": str(PUBLIC), "attention": entries, "out": "verify.json"}
    assert Verify.read(given).attention == ("performer",)


def test_two_commands_at_once_are_bad_input():
    with pytest.raises(ConfigError, match="conformance=true and numerics=true"):
        Verify.read({"out": "a.json", "conformance": True, "numerics": True})


def test_an_unknown_mechanism_is_bad_input_with_the_nearest_name():
    with pytest.raises(ConfigError, match="Did you mean linear"):
        _ = config(PUBLIC, "linaer").mechanisms
