from __future__ import annotations

import pytest

from bench.app.errors import ConfigError
from bench.reproduce.claims import Lab, claim_function, claim_names, register_claim, settings_of
from bench.reproduce.stored import Finding
from tests.bench.reproduce.claims.conftest import GivenLab


def test_at_least_eight_sentences_have_a_function() -> None:
    assert len(claim_names()) >= 8


def test_an_unknown_function_is_answered_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match="Did you mean performer-unbiased"):
        claim_function("performer-unbiassed")


def test_settings_are_those_of_the_signature() -> None:
    with pytest.raises(ConfigError, match=r"takes no setting 'num_seed'\. Did you mean num_seeds"):
        settings_of("polaformer-unlike-signs", {"num_seed": 3})
    with pytest.raises(ConfigError, match="needs the settings num_seeds"):
        settings_of("polaformer-unlike-signs", {})


def test_a_name_stands_for_one_function() -> None:
    def other(lab: Lab) -> Finding:
        raise AssertionError

    claim_names()
    with pytest.raises(ValueError, match=r"taken by bench\.reproduce\.claims\.performer"):
        register_claim("performer-unbiased")(other)


def test_steps_come_in_order(lab: GivenLab) -> None:
    assert list(lab.steps([1, 2, 3], "step")) == [1, 2, 3]
