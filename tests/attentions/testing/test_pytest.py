"""Checks in pytest: a test file of three lines, the command line, and what it refuses."""

import functools
import os
import sys

import pytest

from tests.forked import forked
from tests.sources import MODULES, is_in, modules_run_by

MINE = """
from attentions import Capabilities, register_attention
from attentions.mechanisms.softmax_explicit import SoftmaxExplicit


@register_attention("mine", title="T", source="S", capabilities=Capabilities(exact=False))
class Mine(SoftmaxExplicit):
    def __init__(self, geometry, temperature=1.0):
        super().__init__(geometry)
        self.temperature = temperature

    def forward(self, q, k, v):
        return super().forward(q * self.temperature, k, v)
"""
THREE_LINES = """
import mine
from attentions.testing import checks_of

test_mine = checks_of("mine", settings={"temperature": 2.0})
"""


@pytest.fixture
def tested(tmp_path):
    """Run pytest in a folder with a mechanism that does not say that it is softmax attention."""
    (tmp_path / "mine.py").write_text(MINE)
    (tmp_path / "test_mine.py").write_text(THREE_LINES)

    def run(*words):
        return forked(functools.partial(_pytest, words), tmp_path, COLUMNS="400")

    return run


def _pytest(words):
    sys.path.insert(0, os.getcwd())
    options = ("-q", "-p", "no:cacheprovider", "-p", "attentions.testing.plugin")
    print("exit code", int(pytest.main([*options, *words])))


def test_three_lines_test_a_mechanism_with_settings(tested):
    said = tested("test_mine.py", "-k", "exact or order or deterministic")
    assert " passed" in said and "exit code 0" in said, said


def test_the_command_line_names_mechanisms_claims_and_settings(tested):
    words = ("--pyargs", "attentions.testing", "-p", "mine", "--attention-claims", "exact")
    said = tested(*words, "--attention", "mine,linear")
    assert "it is softmax attention, so claim exact" in said and "exit code 1" in said
    assert "[mine-exact-a_mechanism_that_is_not_exact_is_another_function]" in said
    assert "1 failed, 1 passed" in said
    said = tested(*words, "--attention", "mine", "--attention-settings", "temperature: 2.0")
    assert "exit code 0" in said, said


@pytest.mark.slow
def test_what_cannot_be_tested_is_refused_with_the_remedy(tested):
    words = ("--pyargs", "attentions.testing", "--attention")
    for given, remedy in (
        (["linaer"], "did you mean linear"),
        (["linear", "--attention-claims", "fast"], "the claims are golden, shape"),
        (["linear", "--attention-goldens", "none"], "none is not a folder"),
        (["linear", "--attention-settings", "[1]"], "write it as"),
        (["linear", "--attention-settings", "{sharpness: 2}"], "sharpness"),
    ):
        said = tested(*words, *given)
        assert remedy in said and "exit code 0" not in said, said
        assert "test_attentions.py:" not in said or "sharpness" in given[-1], said


def test_only_the_checks_import_pytest():
    outside = [n for n in MODULES if is_in(n, "attentions") and not is_in(n, "attentions.testing")]
    for name in (*outside, "attentions.testing", "attentions.testing.suite"):
        assert "pytest" not in modules_run_by(name, MODULES), name
