"""Write attentions/functional.pyi, for type checkers: `python -m tools.functional_stub`.

It holds the signature of each core's function, which follows from the registry.
"""

from __future__ import annotations

import inspect
import textwrap
from inspect import Parameter
from pathlib import Path

from attentions import functional
from attentions.catalogue import catalogue

STUB = Path(functional.__file__).with_suffix(".pyi")
COMMAND = "python -m tools.functional_stub"
HEAD = f"""\
# Written by `{COMMAND}`.
# fmt: off
from collections.abc import Mapping
from typing import Any, Literal, overload

from torch import Tensor

from .mix import mix as mix
"""


def stub() -> str:
    """The whole file: a function for each core of this package."""
    names = [entry.name for entry in catalogue() if not entry.is_layer]
    return "\n".join([HEAD, *map(_function, names)])


def _function(name: str) -> str:
    given = inspect.signature(getattr(functional, name)).parameters
    ours = name.removesuffix("_fla").removesuffix("_ort").removesuffix("_published")
    known = inspect.signature(getattr(functional, ours)).parameters if ours != name else given
    words = {key: _word(x, known.get(key, x)) for key, x in given.items()}
    if "return_state" not in words:
        return _definition(name, words, "Tensor")
    without = words | {"return_state": "return_state: Literal[False] = False"}
    with_state = words | {"return_state": "return_state: Literal[True]"}
    return (
        f"@overload\n{_definition(name, without, 'Tensor')}"
        f"@overload\n{_definition(name, with_state, 'tuple[Tensor, Any]')}"
    )


def _word(own: Parameter, known: Parameter) -> str:
    """A parameter; that of ours types one of a row of theirs."""
    if own.default is Parameter.empty:
        return f"{own.name}: {own.annotation}"
    kind = own.annotation if own.annotation is not Parameter.empty else known.annotation
    return f"{own.name}: {kind} = {own.default!r}"


def _definition(name: str, words: dict[str, str], returns: str) -> str:
    tensors, keywords = list(words.values())[:3], list(words.values())[3:]
    glued = [word.replace(" ", "\0") for word in (*tensors, "*", *keywords)]
    text = f"def {name}({', '.join(glued)})\0->\0{returns.replace(' ', chr(0))}:\0..."
    lines = textwrap.wrap(text, 100, subsequent_indent="    ", break_long_words=False)
    return "\n".join(lines).replace("\0", " ") + "\n"


if __name__ == "__main__":
    STUB.write_text(stub(), encoding="utf-8")
    print(f"Wrote {STUB}")
