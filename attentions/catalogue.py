"""What mechanisms there are and what they claim, read off their source without importing torch.

`registry` is what counts; a test holds the two together. Mechanisms of other packages are not seen.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from .capabilities import DTYPES, Capabilities

_DECORATOR = "register_attention"
_WORDS = {
    "Capabilities": Capabilities,
    "frozenset": frozenset,
    "replace": replace,
    "DTYPES": DTYPES,
}
"""What a decorator's arguments may say besides constants, and constants of their own module."""


@dataclass(frozen=True, kw_only=True)
class CatalogueEntry:
    """What `register_attention` was told."""

    name: str
    title: str
    source: str
    capabilities: Capabilities

    @property
    def is_layer(self) -> bool:
        """Whether it owns its projections, and so maps tokens to tokens."""
        return "core" not in self.capabilities.scopes


def catalogue(folder: Path | None = None) -> tuple[CatalogueEntry, ...]:
    """All mechanisms whose source lies in a folder, sorted by name; by default this package's.

    Raises:
        ValueError: an argument of a decorator is more than constants; the file and line are named.
    """
    files = sorted((folder or Path(__file__).parent).glob("[!_]*.py"))
    return tuple(sorted((e for file in files for e in _entries(file)), key=lambda e: e.name))


def _entries(file: Path) -> Iterator[CatalogueEntry]:
    text = file.read_text(encoding="utf-8")
    if f"@{_DECORATOR}" not in text:
        return
    tree = ast.parse(text)
    constants: dict[str, ast.expr] = {}
    for node in tree.body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            constants[node.targets[0].id] = node.value
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value:
            constants[node.target.id] = node.value
        elif isinstance(node, ast.ClassDef):
            for call in node.decorator_list:
                if isinstance(call, ast.Call) and ast.unparse(call.func) == _DECORATOR:
                    yield _entry(call, constants, file)


def _entry(call: ast.Call, constants: dict[str, ast.expr], file: Path) -> CatalogueEntry:
    said: dict[str, Any] = {}
    arguments = [("name", value) for value in call.args]
    arguments += [(keyword.arg or "", keyword.value) for keyword in call.keywords]
    try:
        for key, value in arguments:
            said[key] = _value(value, constants)
        return CatalogueEntry(**said)
    except (NameError, TypeError) as error:
        raise ValueError(
            f"{file}:{call.lineno}: the arguments of @{_DECORATOR} cannot be read without running "
            f"the module ({error}). Use constants, {', '.join(_WORDS)}."
        ) from error


def _value(node: ast.expr, constants: dict[str, ast.expr]) -> Any:
    """Evaluate an expression of this package's own source, with nothing but `_WORDS` to call."""
    names = {n.id for n in ast.walk(node) if isinstance(n, ast.Name)}
    known = {name: _value(constants[name], constants) for name in names & constants.keys()}
    code = compile(ast.Expression(node), "<decorator>", "eval")
    return eval(code, {"__builtins__": {}, **_WORDS, **known})
