"""What makes a number stale: every file that a mechanism is made of."""

import sys

import pytest

from bench import environment
from bench.environment import _hash_closure, _imports


@pytest.mark.parametrize(
    "line",
    [
        "from ._two import f",
        "from . import _two",
        "from . import _one, _two as other",
        "from . import (\n    _two,\n    _one,\n)",
    ],
)
def test_a_change_in_an_imported_file_is_a_change_of_the_mechanism(line, tmp_path, monkeypatch):
    package = tmp_path / "foreign_kernels"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "core.py").write_text(f"{line}\n")
    (package / "_two.py").write_text("f = 1\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, package.name, raising=False)  # of the case before
    before = _hash_closure("foreign_kernels.core")
    (package / "_two.py").write_text("f = 2\n")
    assert _hash_closure("foreign_kernels.core") != before


def test_the_engine_and_the_authors_forms_belong_to_a_mechanism():
    text = "from . import _engine_causal, _official as official\nfrom .base import Attention\n"
    assert set(_imports(text, "attentions", "attentions")) == {
        "attentions._engine_causal",
        "attentions._official",
        "attentions.base",
    }


@pytest.mark.parametrize(
    ("vectors", "name"), [("AVX512", "X 9"), ("AVX2", "X 9 (AVX2)"), ("DEFAULT", "X 9")]
)
def test_processors_of_one_name_are_told_apart_by_their_vectors(monkeypatch, vectors, name):
    monkeypatch.setattr(environment, "_model_name", lambda: "X 9")
    monkeypatch.setattr("bench.hardware.vector_instructions", lambda: vectors)
    here = environment.current(("cpu",), "retain", {})
    assert here.processor == here.devices["cpu"] == name
