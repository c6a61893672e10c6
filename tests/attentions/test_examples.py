"""The examples in docstrings are run, and give what they say."""

import doctest
import importlib
import pkgutil

import torch

import attentions

MODULES = sorted(
    module.name
    for module in pkgutil.walk_packages(attentions.__path__, f"{attentions.__name__}.")
    if "huggingface" not in module.name  # needs its optional package to be imported
)
WITH_EXAMPLES = {
    "attentions": ["attentions"],
    "attentions.base": ["Attention", "AttentionLayer"],
    "attentions.capabilities": ["Capabilities"],
    "attentions.geometry": ["CallShape", "Geometry"],
    "attentions.layer": ["MultiHeadAttention", "build_layer"],
    "attentions.registry": ["attention_class", "attention_names", "build_attention"],
}


def test_examples_give_what_they_say(own_registry):
    for name in ["attentions", *MODULES]:
        torch.manual_seed(0)
        failed, _ = doctest.testmod(importlib.import_module(name), optionflags=doctest.ELLIPSIS)
        assert failed == 0, name


def test_what_a_user_meets_first_has_an_example():
    for name, wanted in WITH_EXAMPLES.items():
        found = doctest.DocTestFinder().find(importlib.import_module(name))
        shown = {test.name.removeprefix(f"{name}.") for test in found if test.examples}
        assert shown >= set(wanted), name
