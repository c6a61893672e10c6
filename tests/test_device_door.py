"""Only `bench.measuring.device` tells kinds of devices apart; read off the source, not run."""

import ast
import re

import pytest

from tests.sources import MODULES, Module, is_in

DOOR = "bench.measuring.device"
EXCEPTIONS = {
    "attentions.testing.suite": "names a claim, whose badge is on disk",
    "attentions.testing.checks.modules": "compares a card with the CPU",
    "bench.studies.launches.noting": "plays a driver to Triton, in a process of its own",
    "attentions.engines.fused_pairs": "torch's kernels that share heads differ by device",
    "attentions.foreign": "declares the devices of the code of others",
    "attentions.mechanisms.softmax": "torch's kernels that share heads differ by device",
}
"""Modules that name cards beside the door, each with its reason."""

DECLARED = {"devices", "backward_devices"}
"""Names under which a mechanism declares the devices that it runs on."""


def around_the_door(module):
    """Places that say ``torch.cuda`` or name a card, but for declarations and adapters."""
    if is_in(module.name, (DOOR, "attentions.adapters")):
        return []
    if "cuda" not in module.source:
        return []
    tree = ast.parse(module.source)
    declared = {
        id(inner) for node in ast.walk(tree) for inner in ast.walk(node) if _is_declaration(node)
    }
    return [
        f"{module.name}:{node.lineno} says {ast.unparse(node)}"
        for node in ast.walk(tree)
        if id(node) not in declared and _names_a_card(node)
    ]


def _is_declaration(node):
    if isinstance(node, ast.keyword):
        return node.arg in DECLARED
    return isinstance(node, ast.AnnAssign) and ast.unparse(node.target) in DECLARED


def _names_a_card(node):
    if isinstance(node, ast.Attribute):
        return node.attr == "cuda"
    if isinstance(node, ast.Import):
        return any(re.search(r"\bcuda\b", alias.name) for alias in node.names)
    if isinstance(node, ast.ImportFrom):
        is_torch = (node.module or "").startswith("torch")
        words = [node.module or "", *(alias.name for alias in node.names)]
        return is_torch and any(re.search(r"\bcuda\b", word) for word in words)
    is_text = isinstance(node, ast.Constant) and isinstance(node.value, str)
    return is_text and re.fullmatch(r"cuda(:\d*)?", node.value) is not None


def test_nothing_knows_a_card_but_the_door():
    found = {name: around_the_door(module) for name, module in MODULES.items()}
    lines = [line for name, of in found.items() if name not in EXCEPTIONS for line in of]
    assert not lines, "\n".join(lines)
    assert [name for name in EXCEPTIONS if not found[name]] == [], "exceptions that are needless"


@pytest.mark.parametrize(
    "source",
    [
        "import torch\ntorch.cuda.synchronize()",
        "import torch\nx.cuda()",
        "import torch.cuda",
        "from torch.cuda import Event",
        "from torch import cuda",
        "def f():\n    from torch.backends import cuda as c",
        "if x.device.type == 'cuda':\n    pass",
        "is_card = device.startswith('cuda')",
        "clocks = {'cuda:0': 1}",
    ],
)
def test_a_way_around_the_door_is_found(source):
    assert around_the_door(Module("bench.measuring.run", source))
    assert around_the_door(Module("attentions.mechanisms.nala", source))
    assert not around_the_door(Module("attentions.adapters.fla", source))
    assert not around_the_door(Module(f"{DOOR}.cuda", source))
