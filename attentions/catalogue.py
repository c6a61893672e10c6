"""The mechanisms and their claims, read from the source without importing torch.

A mechanism's docstring is the one home of what is said about it; tables and pages are views of it.
`registry` is what counts; a test holds the two together. Of other packages those mechanisms are
seen that an entry point names.
"""

from __future__ import annotations

import ast
import operator
import re
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from . import capabilities as _capabilities
from . import plugins as _plugins
from .capabilities import FAMILIES, PUBLISHED, Capabilities, published_capabilities
from .foreign import Operator, OrtOperator, Ours
from .foreign import mechanism_behind as mechanism_behind
from .plugins import PluginProblem

HOMES = ("mechanisms", "published", "adapters")
"""Sub-packages whose modules register mechanisms."""
_HERE = Path(__file__).parent
_DECORATOR, _OPERATORS = "register_attention", "published"
"""Decorators of a class and of the authors' operators as a function."""
_ROWS = {"Operator": Operator, "OrtOperator": OrtOperator}
"""Rows of tables of other packages' operators."""
_CLAIMS = ("Capabilities", "Gate", "DTYPES", "RECURRENT", "RECURRENT_LAYER", "GRID_LAYER")
_WORDS: dict[str, Any] = {name: getattr(_capabilities, name) for name in _CLAIMS}
_WORDS |= {"frozenset": frozenset, "replace": replace}
"""Calls allowed in a decorator's arguments besides constants and constants of their own module."""
_PLAIN = (type(None), bool, int, float, str, list, tuple)
"""Types of defaults that a row can set."""
_SECTION = re.compile(r"^(Args|Hazards|Differences):\n", re.MULTILINE)
_ARGUMENT = re.compile(r"^(\w+): ", re.MULTILINE)
_GEOMETRY = "geometry"


@dataclass(frozen=True, kw_only=True)
class Block:
    """A paragraph of the words, or an indented formula with its line breaks."""

    text: str
    is_formula: bool = False


@dataclass(frozen=True, kw_only=True)
class Description:
    """Description in a class: its docstring and constants.

    Attributes:
        summary: the first paragraph, often the whole formula.
        body: what follows up to the first section, in order.
        arguments: hyperparameter -> what it is, the geometry left out.
        hazards: where the result is not what one would expect, or gets bad.
        differences: where paper, official code and ours part.
    """

    summary: str
    body: tuple[Block, ...] = ()
    arguments: dict[str, str] = field(default_factory=dict)
    hazards: tuple[str, ...] = ()
    differences: tuple[str, ...] = ()

    @property
    def formula(self) -> str:
        """The indented formulas; the summary where there are none."""
        formulas = [block.text for block in self.body if block.is_formula]
        return "\n".join(formulas) or self.summary


@dataclass(frozen=True, kw_only=True)
class CatalogueEntry:
    """Arguments of `register_attention`, and the description in the class.

    Attributes:
        name, title, source, capabilities, family: the arguments of `register_attention`.
        doc: the class's docstring.
        defaults: hyperparameter -> its default as text.
        values: hyperparameter -> its default; those left out that are more than constants.
        module: the file within `attentions` without its ending; of a plugin, the file's name.
    """

    name: str
    title: str
    source: str
    capabilities: Capabilities
    family: str = "other"
    doc: str = ""
    defaults: dict[str, str] = field(default_factory=dict)
    values: dict[str, Any] = field(default_factory=dict)
    module: str = ""

    @property
    def row(self) -> dict[str, Any]:
        """The mechanism's row of its own name: all as the constructor has it."""
        return {"mechanism": self.name, **self.values}

    @property
    def is_layer(self) -> bool:
        """True if it owns its projections, and so maps tokens to tokens."""
        return "core" not in self.capabilities.scopes

    @property
    def year(self) -> int | None:
        """Year of the source, of the first where there are several; None for a control."""
        found = re.search(r"\b(?:19|20)\d\d\b", self.source)
        return int(found[0]) if found else None

    @property
    def family_meaning(self) -> str:
        """Common trait of the family's mechanisms, in words; empty for an unknown family."""
        return FAMILIES.get(self.family, "")

    @cached_property
    def description(self) -> Description:
        """The docstring, taken apart."""
        return describe(self.doc)


def catalogue(folder: Path | None = None) -> tuple[CatalogueEntry, ...]:
    """All mechanisms whose source lies in a folder, sorted by name; by default this package's.

    Raises:
        ValueError: an argument of a decorator is more than constants; the file and line are named.
    """
    folders = [folder] if folder else [_HERE / home for home in HOMES]
    files = sorted(file for each in folders for file in each.glob("[!_]*.py"))
    found = [entry for file in files for entry in _entries(file)]
    ours = Ours({entry.name: entry for entry in found})
    found += [entry for file in files for entry in _published_entries(file, ours)]
    found += [entry for file in files for entry in _foreign_entries(file, ours)]
    return tuple(sorted(found, key=lambda entry: entry.name))


def plugin_catalogue() -> tuple[tuple[CatalogueEntry, ...], tuple[PluginProblem, ...]]:
    """The mechanisms that entry points of other packages name, and the plugins without any."""
    entries: list[CatalogueEntry] = []
    problems = []
    for point in _plugins.installed():
        try:
            found = module_catalogue(_plugins.module_of(point))
        except Exception as error:  # a foreign file, which may be anything
            reason = f"{type(error).__name__}: {error}"
            problems.append(PluginProblem(plugin=_plugins.label(point), reason=reason))
            continue
        entries += [entry for entry in found if entry not in entries]
    return tuple(sorted(entries, key=lambda entry: entry.name)), tuple(problems)


def module_catalogue(module: str) -> tuple[CatalogueEntry, ...]:
    """The mechanisms of a module, or of a package, that Python finds by this name.

    Raises:
        ImportError: there is no such module, or it has no source.
        ValueError: an argument of a decorator is more than constants.
        SyntaxError: it is no Python.
    """
    return tuple(entry for file in _plugins.source_files(module) for entry in _entries(file))


def registered_names(package: Path) -> frozenset[str]:
    """Names of the mechanisms of another tree's `attentions`; nothing else of it is read."""
    files = [file for home in HOMES for file in (package / home).glob("[!_]*.py")]
    said = (
        (value, "_published" if isinstance(node, ast.FunctionDef) else "")
        for file in files
        for call, node, _ in _registered(file)
        for value in (*call.args[:1], *(k.value for k in call.keywords if k.arg == "name"))
    )
    rows = ((call.args[0], "") for file in files for call, _ in _rows(file))
    return frozenset(str(v.value) + end for v, end in (*said, *rows) if isinstance(v, ast.Constant))


def _entries(file: Path) -> Iterator[CatalogueEntry]:
    for call, node, constants in _registered(file):
        if isinstance(node, ast.ClassDef):
            yield _entry(call, node, constants, file)


def _published_entries(file: Path, ours: Mapping[str, CatalogueEntry]) -> Iterator[CatalogueEntry]:
    """Operators of the authors, described by what differs from ours."""
    for call, node, constants in _registered(file):
        if isinstance(node, ast.FunctionDef):
            words = {k.arg: k.value for k in call.keywords if k.arg not in ("check", "methods")}
            said = {key: _value(word, constants) for key, word in words.items()}
            same, changed = ours[_value(call.args[0], constants)], said.get("defaults", {})
            values = {k: v for k, v in same.values.items() if k not in said.get("lacks", ())}
            yield CatalogueEntry(
                name=f"{same.name}_published",
                title=said["title"],
                source=said["source"],
                capabilities=published_capabilities(same.capabilities, said.get("memory_layout")),
                family=PUBLISHED,
                doc=ast.get_docstring(node) or "",
                defaults={
                    k: repr(changed[k]) if k in changed else same.defaults[k] for k in values
                },
                values=values | changed,
                module=_module(file),
            )


def _foreign_entries(file: Path, ours: Mapping[str, CatalogueEntry]) -> Iterator[CatalogueEntry]:
    """Rows of operators of other packages, described by what follows from ours."""
    for call, constants in _rows(file):
        row: Any = _ROWS[ast.unparse(call.func)]
        said = {k.arg or "": _value(k.value, constants) for k in call.keywords if k.arg != "more"}
        name, place = (_value(call.args[index], constants) for index in (0, 2))
        same = ours[mechanism_behind(name)]
        kept = [key for key in same.values if key not in said.get("fixed", ())]
        yield CatalogueEntry(
            **row(name, same, place, **said).entry(same.description.formula, kept),
            defaults={key: same.defaults[key] for key in kept},
            values={key: same.values[key] for key in kept},
            module=_module(file),
        )


def _rows(file: Path) -> Iterator[tuple[ast.Call, dict[str, ast.expr]]]:
    """Rows of a table of operators, and the constants of the file."""
    text = file.read_text(encoding="utf-8")
    for node in ast.walk(_parsed(text)) if "Operator(" in text else ():
        if isinstance(node, ast.Call) and ast.unparse(node.func) in _ROWS:
            yield node, _constants(text)


def _registered(
    file: Path,
) -> Iterator[tuple[ast.Call, ast.ClassDef | ast.FunctionDef, dict[str, ast.expr]]]:
    """Decorator and body of each mechanism of a file, and the constants of the file."""
    text = file.read_text(encoding="utf-8")
    if f"@{_DECORATOR}" not in text and f"@{_OPERATORS}" not in text:
        return
    for node in _parsed(text).body:
        if isinstance(node, (ast.ClassDef, ast.FunctionDef)):
            by = _DECORATOR if isinstance(node, ast.ClassDef) else _OPERATORS
            for call in node.decorator_list:
                if isinstance(call, ast.Call) and ast.unparse(call.func) == by:
                    yield call, node, _constants(text)


@cache
def _parsed(text: str) -> ast.Module:
    return ast.parse(text)


@cache
def _constants(text: str) -> dict[str, ast.expr]:
    found: dict[str, ast.expr] = {}
    for node in _parsed(text).body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            found[node.targets[0].id] = node.value
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value:
            found[node.target.id] = node.value
    return found


def _entry(
    call: ast.Call, cls: ast.ClassDef, constants: dict[str, ast.expr], file: Path
) -> CatalogueEntry:
    defaults = _defaults(cls)
    values = dict(_constant(defaults, constants))
    said: dict[str, Any] = {
        "doc": ast.get_docstring(cls) or "",
        "defaults": {name: _shown(name, node, values) for name, node in defaults.items()},
        "values": values,
        "module": _module(file),
    }
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


def _module(file: Path) -> str:
    path = file.with_suffix("")
    return path.relative_to(_HERE).as_posix() if path.is_relative_to(_HERE) else path.name


def _defaults(cls: ast.ClassDef) -> dict[str, ast.expr | None]:
    """Parameters behind self and geometry; empty without a constructor of its own."""
    for node in cls.body:
        if isinstance(node, ast.FunctionDef) and node.name == "__init__":
            positional = [*node.args.posonlyargs, *node.args.args]
            missing = [None] * (len(positional) - len(node.args.defaults))
            values = [*missing, *node.args.defaults]
            pairs = [*zip(positional, values, strict=True)][2:]
            pairs += zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True)
            return {name.arg: value for name, value in pairs}
    return {}


def _shown(name: str, node: ast.expr | None, values: Mapping[str, Any]) -> str:
    """Return a default as text: its value, or else what the constructor writes; empty for none."""
    if node is None:
        return ""
    return repr(values[name]) if name in values else ast.unparse(node)


def _constant(
    defaults: dict[str, ast.expr | None], constants: dict[str, ast.expr]
) -> Iterator[tuple[str, Any]]:
    """Defaults that a configuration can hold; None for a parameter that has none."""
    for name, node in defaults.items():
        try:
            value = _value(node, constants) if node else None
        except (NameError, TypeError):
            continue
        if isinstance(value, _PLAIN):
            yield name, list(value) if isinstance(value, tuple) else value


def _value(node: ast.expr, constants: dict[str, ast.expr]) -> Any:
    """Value of an expression of constants, of collections and of calls to `_WORDS`.

    Raises:
        NameError, TypeError: it is more than that. Nothing of it is run.
    """

    def value(inner: ast.expr) -> Any:
        return _value(inner, constants)

    match node:
        case ast.Constant():
            return node.value
        case ast.Name() if node.id in constants:
            return value(constants[node.id])
        case ast.Name() if node.id in _WORDS:
            return _WORDS[node.id]
        case ast.Name():
            raise NameError(f"name {node.id!r} is not defined")
        case ast.JoinedStr():
            return "".join(str(value(part)) for part in node.values)
        case ast.FormattedValue(format_spec=None):
            return value(node.value)
        case ast.UnaryOp(op=ast.USub()):
            return -value(node.operand)
        case ast.Tuple() | ast.List() | ast.Set():
            kind = {ast.Tuple: tuple, ast.List: list, ast.Set: set}[type(node)]
            return kind(map(value, node.elts))
        case ast.Dict(keys=keys) if None not in keys:
            return {value(k): value(v) for k, v in zip(keys, node.values, strict=True) if k}
        case ast.BinOp(op=ast.Add() | ast.Sub() | ast.BitOr()):
            do = {ast.Add: operator.add, ast.Sub: operator.sub, ast.BitOr: operator.or_}
            return do[type(node.op)](value(node.left), value(node.right))
        case ast.Call(func=ast.Name(id=name)) if name in _WORDS:
            named = {keyword.arg or "": value(keyword.value) for keyword in node.keywords}
            return _WORDS[name](*map(value, node.args), **named)
    raise TypeError(f"{ast.unparse(node)[:80]} is more than constants")


def describe(doc: str) -> Description:
    """Take a docstring apart that is free of its indentation, as `inspect.cleandoc` leaves it."""
    head, *rest = _SECTION.split(doc)
    sections = dict(zip(rest[::2], map(textwrap.dedent, rest[1::2]), strict=True))
    summary, *paragraphs = re.split(r"\n\s*\n", head.strip())
    return Description(
        summary=_joined(summary),
        body=tuple(_block(paragraph) for paragraph in paragraphs),
        arguments=_arguments(sections.get("Args", "")),
        hazards=_items(sections.get("Hazards", "")),
        differences=_items(sections.get("Differences", "")),
    )


def _block(paragraph: str) -> Block:
    if paragraph.startswith(" "):
        return Block(text=textwrap.dedent(paragraph).rstrip(), is_formula=True)
    return Block(text=_joined(paragraph))


def _arguments(section: str) -> dict[str, str]:
    _, *rest = _ARGUMENT.split(section)
    said = dict(zip(rest[::2], map(_joined, rest[1::2]), strict=True))
    return {name: text for name, text in said.items() if name != _GEOMETRY}


def _items(section: str) -> tuple[str, ...]:
    return tuple(_joined(item) for item in re.split(r"^- ", section, flags=re.MULTILINE)[1:])


def _joined(text: str) -> str:
    return " ".join(text.split())
