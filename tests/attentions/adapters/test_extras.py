import sys
import tomllib
from pathlib import Path

import pytest
import torch

import attentions
from attentions import Geometry, build_attention
from attentions.adapters.extras import EXTRAS, load, not_installed
from tests.attentions.calls import call_of

PYPROJECT = Path(__file__).parents[3] / "pyproject.toml"
OPTIONAL = [
    n for n in attentions.attention_names() if attentions.attention_class(n).capabilities.requires
]
GEOMETRY = Geometry(num_heads=2, head_dim=8, seq_len=16, causal=True)


def test_every_extra_that_is_named_exists():
    known = tomllib.loads(PYPROJECT.read_text())["project"]["optional-dependencies"]
    assert set(EXTRAS.values()) <= set(known)


def test_a_missing_package_is_named_with_its_extra():
    assert not_installed("gla_fla", "fla") == (
        "gla_fla needs the package fla, which is not installed: pip install 'attnbench[fla]'."
    )
    assert not_installed("mine", "no_such") == (
        "mine needs the package no_such, which is not installed."
    )
    with pytest.raises(ImportError, match="mine needs the package no_such_package"):
        load("mine", "no_such_package.ops", "attend")


def test_a_package_that_is_there_and_broken_is_not_called_missing(tmp_path, monkeypatch):
    (tmp_path / "broken_package.py").write_text("import no_such_dependency")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ImportError, match="is installed and cannot be imported: No module named"):
        load("mine", "broken_package", "attend")


def test_a_version_without_the_function_is_told():
    with pytest.raises(ImportError, match=r"mine needs torch\.no_such_function, which the version"):
        load("mine", "torch", "no_such_function")


@pytest.mark.parametrize("name", OPTIONAL)
def test_without_its_package_a_mechanism_says_so_when_it_is_built(name, monkeypatch):
    can = attentions.attention_class(name).capabilities
    package = can.requires[0]
    for module in [m for m in sys.modules if m.partition(".")[0] == package]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, package, None)
    geometry = Geometry(num_heads=2, head_dim=64, seq_len=16, causal=not can.bidirectional)
    with pytest.raises(ImportError, match=f"{name} needs"):
        build_attention(name, geometry)


@pytest.mark.parametrize("name", OPTIONAL)
def test_its_formulas_need_no_package_and_each_package_has_an_extra(name, monkeypatch):
    can = attentions.attention_class(name).capabilities
    monkeypatch.setitem(sys.modules, can.requires[0], None)
    geometry = Geometry(num_heads=2, head_dim=64, seq_len=16, causal=not can.bidirectional)
    shape = call_of(16, 64, causal=geometry.causal)
    with torch.device("meta"):
        mechanism = build_attention(name, geometry)
    assert mechanism.flops(shape) > 0
    assert set(can.requires) <= set(EXTRAS), "each package has an extra"
