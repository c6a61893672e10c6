import ast
import inspect

import pytest

from attentions import attention_class, attention_names, hyperparameters
from attentions.base import AttentionLayer
from attentions.capabilities import FAMILIES, Capabilities
from attentions.catalogue import Block, CatalogueEntry, catalogue, describe

MODULE = """
from .base import Attention
from .capabilities import Capabilities
from .registry import register_attention

_SOURCE = "Somebody, 2020"
_CAN = Capabilities(causal=True, masks=frozenset({"padding"}))


@register_attention("b", title="B", source=_SOURCE, capabilities=_CAN)
class B(Attention):
    pass


@register_attention(
    name="a",
    title="A" + " layer",
    source=f"{_SOURCE}, page 1",
    capabilities=replace(_CAN, scopes=("layer",)),
)
class A(Attention):
    pass
"""


def test_the_catalogue_says_what_the_registry_says():
    import attentions

    written = {entry.name: entry for entry in catalogue()}
    built_in = [
        name
        for name in attention_names()
        if attention_class(name).__module__.startswith(f"{attentions.__name__}.")
    ]
    registered = [
        CatalogueEntry(
            name=name,
            title=attention_class(name).title,
            source=attention_class(name).source,
            capabilities=attention_class(name).capabilities,
            family=attention_class(name).family,
            doc=inspect.getdoc(attention_class(name)) or "",
            defaults={key: written[name].defaults.get(key, "") for key in hyperparameters(name)},
            values=hyperparameters(name),
            module=attention_class(name).__module__.partition(".")[2].replace(".", "/"),
        )
        for name in built_in
    ]
    assert list(written.values()) == registered


def test_a_default_is_read_as_the_constructor_has_it():
    for entry in catalogue():
        read = {name: ast.literal_eval(text) for name, text in entry.defaults.items()}
        assert read == hyperparameters(entry.name), entry.name


def test_every_mechanism_says_what_it_is():
    for entry in catalogue():
        said = entry.description
        assert entry.family in FAMILIES and entry.family != "other", entry.name
        assert "=" in said.formula or "(" in said.formula, entry.name
        assert set(said.arguments) == set(entry.defaults), entry.name
        assert said.hazards, entry.name
        assert said.differences or entry.family == "control", entry.name


def test_a_layer_is_what_derives_from_attention_layer():
    for entry in catalogue():
        assert entry.is_layer == issubclass(attention_class(entry.name), AttentionLayer), entry.name


def test_constants_of_the_module_are_read_without_running_it(tmp_path):
    (tmp_path / "ab.py").write_text(MODULE)
    first, second = catalogue(tmp_path)
    assert (first.name, first.title, first.source) == ("a", "A layer", "Somebody, 2020, page 1")
    assert first.is_layer and not second.is_layer
    assert second.capabilities == Capabilities(causal=True, masks=frozenset({"padding"}))


def test_modules_that_are_not_mechanisms_are_passed_over(tmp_path):
    (tmp_path / "_private.py").write_text(MODULE)
    (tmp_path / "plain.py").write_text("raise RuntimeError('was run')")
    assert catalogue(tmp_path) == ()


@pytest.mark.parametrize("argument", ["open('x')", "_UNKNOWN", "Capabilities(causale=True)"])
def test_what_cannot_be_read_is_told_with_its_line(tmp_path, argument):
    (tmp_path / "ab.py").write_text(MODULE.replace("capabilities=_CAN", f"capabilities={argument}"))
    with pytest.raises(ValueError, match=r"ab\.py:10: the arguments"):
        catalogue(tmp_path)


DOCSTRING = inspect.cleandoc(
    """softmax(q k^T) v, a first sentence
    of two lines.

        out_i = a
              + b

    with words behind it,
    over two lines.

        c = d

    Hazards:
        - One that is
          long.
        - Another one - with a dash.

    Differences:
        - None.

    Args:
        geometry: the shape.
        eps: what is
            added: always.
        k: keys.
    """
)


def test_a_docstring_is_taken_apart_into_its_parts():
    said = describe(DOCSTRING)
    assert said.summary == "softmax(q k^T) v, a first sentence of two lines."
    assert said.body == (
        Block(text="out_i = a\n      + b", is_formula=True),
        Block(text="with words behind it, over two lines."),
        Block(text="c = d", is_formula=True),
    )
    assert said.hazards == ("One that is long.", "Another one - with a dash.")
    assert said.differences == ("None.",)
    assert said.arguments == {"eps": "what is added: always.", "k": "keys."}


def test_the_formula_is_what_is_indented_or_else_the_summary():
    assert describe(DOCSTRING).formula == "out_i = a\n      + b\nc = d"
    assert describe("v / N.\n\nWords.").formula == "v / N."
