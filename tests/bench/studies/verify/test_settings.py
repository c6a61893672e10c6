import pytest

from bench.core.cli.errors import ConfigError
from bench.studies.verify.command import goldens
from bench.studies.verify.settings import Verify
from tests.attentions.testing.authors.copies import PUBLIC
from tests.bench.studies.verify.goldens import config


def test_a_wheel_asks_for_a_golden_folder(monkeypatch, tmp_path):
    monkeypatch.setattr("bench.studies.verify.command.PACKAGED", tmp_path / "none")
    with pytest.raises(ConfigError, match=r"in attentions/testing/golden; name .* as golden=DIR"):
        goldens(config(None))
    assert goldens(config(PUBLIC)).path == PUBLIC


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
