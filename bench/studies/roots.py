"""A model of settings in place of a YAML: what Hydra composes from it, and its ``--help``."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from bench.core.cli.usage import WIDTH, Root
from bench.core.settings import FieldInfo, Settings, Word, group_of, takes_many


def root_of(cls: type[Settings], *, out_is_file: bool = False) -> Root:
    """The content and help that a YAML would give; the model's docstring is the command's purpose.

    With `out_is_file`, ``out`` names a file, beside which a multirun has its folder.
    """
    fields = cls.model_fields.items()
    groups = [{name: _chosen(f.default)} for _, f in fields if (name := group_of(f))]
    defaults = {name: _yaml(_default(field)) for name, field in fields if not group_of(field)}
    silent = [{"override hydra/job_logging": "none"}, {"override hydra/hydra_logging": "none"}]
    folder = f"${{out}}{'.' if out_is_file else '/'}hydra/${{oc.env:ATTNBENCH_SWEEP}}"
    hydra = {
        "output_subdir": None,
        "run": {"dir": "."},
        "sweep": {"dir": folder, "subdir": "${hydra:job.num}"},
    }
    return Root(
        content={"defaults": ["_self_", *groups, *silent], **defaults, "hydra": hydra},
        purpose=textwrap.fill(" ".join((cls.__doc__ or "").split()), WIDTH),
        keys=help_of(cls),
    )


def _chosen(names: str | tuple[str, ...]) -> str | list[str]:
    return names if isinstance(names, str) else list(names)


def _default(field: FieldInfo) -> Any:
    """Default as it would be typed: a single value of a `Many` without brackets."""
    default = field.get_default(call_default_factory=True)
    return default[0] if takes_many(field) and len(default) == 1 else default


def _yaml(value: Any) -> Any:
    if isinstance(value, Settings):
        return {name: _yaml(getattr(value, name)) for name in type(value).model_fields}
    if isinstance(value, (tuple, list)):
        return [_yaml(one) for one in value]
    if isinstance(value, Mapping):
        return {key: _yaml(one) for key, one in value.items()}
    return str(value) if isinstance(value, Path) else value


_COMMENT = 26
"""Column of a key's documentation."""


def help_of(cls: type[Settings], indent: str = "  ") -> str:
    """A line for each key: its default, and what its documentation says."""
    lines = []
    for name, field in cls.model_fields.items():
        if group_of(field):
            continue
        default, words = _default(field), " ".join((field.description or "").split())
        has_keys = isinstance(default, Settings) or (isinstance(default, Mapping) and default)
        known, own = _choices(field), default if isinstance(default, tuple) else (default,)
        if any(word not in own for word in known):
            words = f"{words} One of: {', '.join(known)}.".strip()
        key = f"{indent}{name}:" if has_keys else f"{indent}{name}: {_typed(_yaml(default))}"
        lines.append(f"{key.ljust(_COMMENT - 1)} # {words}" if words else key)
        if isinstance(default, Settings):
            lines.append(help_of(type(default), indent + "  "))
        elif has_keys:
            lines += [f"{indent}  {k}: {_typed(_yaml(v))}" for k, v in default.items()]
    return "\n".join(lines)


def _choices(field: FieldInfo) -> list[str]:
    """Words that a field takes, where they are a closed set."""
    found: list[str] = []
    for mark in _flat(field.annotation, field.metadata):
        if isinstance(mark, Word):
            found += sorted(mark.known())
        elif get_origin(mark) is Literal:
            found += [str(word) for word in get_args(mark) if word is not None]
    return list(dict.fromkeys(found))


def _flat(annotation: Any, metadata: Sequence[Any]) -> Iterator[Any]:
    yield from metadata
    yield annotation
    yield from getattr(annotation, "__metadata__", ())
    if get_origin(annotation) is not Literal:
        for inner in get_args(annotation):
            yield from _flat(inner, ())


def _typed(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_typed, value))}]"
    if isinstance(value, bool):
        return str(value).lower()
    return "null" if value is None else str(value)
