"""The files that a mechanism or a task is made of, and their hashes; runs none of them.

There are two: a timing depends on every byte, since a checkpoint or a stored record says which
files it is of; a proof holds for as long as the code says the same.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import json
import threading
from functools import lru_cache
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from typing import Any

_PARSING = threading.Lock()
"""Held by one thread at a time: Python 3.11 raises SystemError where two build trees at once, as
threads of two cards do."""


def hashed(about: list[Any]) -> str:
    """Hash what JSON can hold; 16 hexadecimal digits."""
    return hashlib.sha256(json.dumps(about).encode()).hexdigest()[:16]


def hash_closure(module: str) -> str:
    """Hash the files that a module is made of, see `closure`; 16 hexadecimal digits."""
    digest = hashlib.sha256()
    for path in sorted(closure(module)):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def hash_syntax(module: str) -> str:
    """Hash what the files of a module say, see `closure`; 16 hexadecimal digits.

    Comments, docstrings and layout do not count, and versions of Python agree.
    """
    digest = hashlib.sha256()
    for path in sorted(closure(module)):
        digest.update(_parsed(path.read_bytes())[1])
    return digest.hexdigest()[:16]


def closure(module: str) -> set[Path]:
    """The files that a module is made of: its own, and those of its package that it imports."""
    root = module.partition(".")[0]
    seen: set[Path] = set()
    waiting = [module]
    while waiting:
        spec = _find(waiting.pop())
        if spec is None or spec.origin is None:
            continue
        path = Path(spec.origin)
        if path in seen or not path.is_file():  # built-in and frozen modules have no file
            continue
        seen.add(path)
        own = spec.name if spec.submodule_search_locations else spec.name.rpartition(".")[0]
        if path.suffix == ".py":  # and no compiled extension
            waiting += _imports(path.read_bytes(), own, root)
    return seen


def _find(name: str) -> ModuleSpec | None:
    """Find a module without running any; None for another name, such as a function's."""
    parent, _, _ = name.rpartition(".")
    if not parent:
        try:
            return importlib.util.find_spec(name)
        except ValueError:  # a module that was made by hand, without a spec
            return None
    above = _find(parent)
    if above is None or not above.submodule_search_locations:
        return None
    # `importlib.util.find_spec` would import the packages above, and torch with some of them.
    return PathFinder.find_spec(name, above.submodule_search_locations)


@lru_cache(maxsize=512)  # mechanisms share most of their files
def _parsed(source: bytes) -> tuple[tuple[tuple[int, str, tuple[str, ...]], ...], bytes]:
    """Imports of a file, each as its level, module and names, and a digest of its syntax tree.

    A file that is no Python of this version, which a plugin may import where it can, has no imports
    and the digest of its bytes.
    """
    try:
        with _PARSING:
            tree = ast.parse(source)  # bytes, since a file may name an encoding of its own
        said = _written(tree).encode()
    except (SyntaxError, ValueError):
        return (), hashlib.sha256(source).digest()
    imports: list[tuple[int, str, tuple[str, ...]]] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            names = tuple(alias.name for alias in node.names)
            imports.append((node.level, node.module or "", names))
        elif isinstance(node, ast.Import):
            imports += [(0, alias.name, ()) for alias in node.names]
    return tuple(imports), hashlib.sha256(said).digest()


def _imports(source: bytes, package: str, root: str) -> tuple[str, ...]:
    """Imports of a file from its own top-level package: names of modules, and of their definitions.

    Absolute imports count only from the harness's tasks: its other modules are shared by all tasks.
    """
    found: list[str] = []
    for level, module, names in _parsed(source)[0]:
        if level:
            base = package.rsplit(".", level - 1)[0]
            module = f"{base}.{module}" if module else base
            found += [*([module] if module != base else []), *(f"{module}.{n}" for n in names)]
        elif module.startswith("bench.measuring.tasks"):
            found += [module, *(f"{module}.{name}" for name in names)]
    return tuple(name for name in found if name.partition(".")[0] == root)


def _written(node: object) -> str:
    """A tree as text. `ast.dump` also writes fields that only some versions of Python have."""
    if isinstance(node, ast.Constant):
        return ascii(node.value)
    if isinstance(node, ast.JoinedStr):  # Python 3.12 has some texts between values in parts
        texts = (v.value if isinstance(v, ast.Constant) else _written(v) for v in node.values)
        return f"f{''.join(map(str, texts))!a}"
    if isinstance(node, list):
        return f"[{','.join(_written(one) for one in node if not _is_docstring(one))}]"
    if isinstance(node, ast.AST):
        fields = ((name, getattr(node, name, None)) for name in node._fields if name != "ctx")
        said = [f"{name}={_written(value)}" for name, value in fields if value not in (None, [])]
        return f"{type(node).__name__}({','.join(said)})"
    return ascii(node)


def _is_docstring(node: object) -> bool:
    """True for a string as a statement, which says something to a reader alone."""
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )
