"""Build a model by name, with any mechanism in the place of its attention."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from ._swap import Swap
from .catalogue import ModelInfo, model_info

_EXTRA = "models"


def build_model(
    name: str,
    mechanism: str | None = None,
    *,
    image_size: int = 224,
    num_classes: int = 1000,
    stages: Sequence[int] | None = None,
    **hyperparameters: Any,
) -> nn.Module:
    """Build an image classifier, (B, 3, S, S) -> (B, num_classes), with untrained weights.

    >>> from attentions.models import build_model
    >>> model = build_model("nalaformer_xt", "linear", image_size=32, num_classes=10)
    >>> import torch
    >>> model(torch.randn(2, 3, 32, 32)).shape
    torch.Size([2, 10])

    Args:
        name: one of `model_names`, or ``path/to/factory.py:build`` for a model of your own.
        mechanism: the registered name of what takes the place of its attention; None for the model
            as its authors published it.
        image_size: S, pixels along a side.
        num_classes: outputs.
        stages: the stages, from 1, whose attention is replaced; those of the authors unless given.
        hyperparameters: the mechanism's own.

    Raises:
        ValueError: an unknown name, a size that the model does not take, or a mechanism that cannot
            stand there.
        TypeError: a hyperparameter that the mechanism does not take.
        ImportError: the model needs a package that is not installed; the message names the extra.
    """
    if ":" in name:
        return _build_own(name, mechanism, image_size, num_classes, stages, hyperparameters)
    info = model_info(name)
    _check_size(info, image_size)
    if not isinstance(num_classes, int) or num_classes < 1:
        raise ValueError(
            f"{name}: num_classes is {num_classes!r}; a whole number of 1 or more is needed."
        )
    swap = _swap(info, mechanism, stages, hyperparameters)
    family = _family(info)
    return family(info, swap, image_size, num_classes)


def _check_size(info: ModelInfo, image_size: int) -> None:
    is_size = isinstance(image_size, int) and not isinstance(image_size, bool)
    if not is_size or image_size < info.min_image_size or image_size % info.image_size_step:
        raise ValueError(
            f"{info.name}: image_size is {image_size!r}; a multiple of {info.image_size_step} is "
            f"needed, {info.min_image_size} or more."
        )


def _swap(
    info: ModelInfo,
    mechanism: str | None,
    stages: Sequence[int] | None,
    hyperparameters: dict[str, Any],
) -> Swap | None:
    chosen = info.mechanism if mechanism is None else mechanism
    if chosen is None:
        for given in (*hyperparameters, *(() if stages is None else ("stages",))):
            raise ValueError(
                f"{info.name}: {given} is given without a mechanism; as published it has none to "
                "set. Name a mechanism too."
            )
        return None
    if stages is not None:
        known = tuple(range(1, info.num_stages + 1))
        wrong = [stage for stage in stages if stage not in known]
        if wrong or not stages:
            numbers = f"some of {', '.join(map(str, known))}" if known else "none: it has no stages"
            raise ValueError(f"{info.name}: stages is {list(stages)}; allowed are {numbers}.")
    return Swap(
        model=info.name,
        mechanism=chosen,
        stages=info.stages if stages is None else tuple(stages),
        whole_grid=info.whole_grid,
        hyperparameters=hyperparameters,
    )


def _family(info: ModelInfo) -> Callable[[ModelInfo, Swap | None, int, int], nn.Module]:
    for package in info.requires:
        if importlib.util.find_spec(package) is None:
            raise ImportError(
                f"{info.name} needs {package}, which is not installed. It comes with the extra "
                f"'{_EXTRA}': pip install 'attnbench[{_EXTRA}]'."
            )
    module = importlib.import_module(f".{info.family}", __package__)
    return module.build  # type: ignore[no-any-return]


def _build_own(
    name: str,
    mechanism: str | None,
    image_size: int,
    num_classes: int,
    stages: Sequence[int] | None,
    hyperparameters: dict[str, Any],
) -> nn.Module:
    """Call a user's own function, and put the mechanism into what it returns."""
    if stages is not None:
        raise ValueError(
            f"{name}: stages is {list(stages)}; a model of your own has none that are known here."
        )
    try:
        factory = _own_factory(name)
        model = factory(**_taken(name, factory, image_size=image_size, num_classes=num_classes))
    except SystemExit as error:
        raise ValueError(
            f"{name} ended the program (SystemExit: {error}); a function that returns a model is "
            "needed, in a file that can be imported."
        ) from error
    if not isinstance(model, nn.Module):
        raise ValueError(f"{name} returned a {type(model).__name__}; an nn.Module is needed.")
    _check_values(name, model)
    if mechanism is None:
        return model
    from ..integrations.replace import replace_attention

    return replace_attention(model, mechanism, **hyperparameters)


def _check_values(name: str, model: nn.Module) -> None:
    """Refuse a model that is not whole yet: what it would compute is not decided."""
    on_meta = torch.empty(0).is_meta  # then the caller wants no values
    for tensor_name, tensor in (*model.named_parameters(), *model.named_buffers()):
        if is_lazy(tensor):
            raise ValueError(
                f"{name}: {tensor_name} has no shape yet, as in torch's Lazy modules; call the "
                "model once before it is returned."
            )
        if tensor.is_meta and not on_meta:
            raise ValueError(
                f"{name}: {tensor_name} is on meta, without values; give it some before the model "
                "is returned."
            )


def _taken(name: str, factory: Callable[..., Any], **offered: int) -> dict[str, int]:
    """Arguments that a factory takes, of those offered, by name."""
    signature = inspect.signature(factory)
    by_name = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    takes = {key for key, p in signature.parameters.items() if p.kind in by_name}
    if any(p.kind is inspect.Parameter.VAR_KEYWORD for p in signature.parameters.values()):
        takes |= set(offered)
    given = {key: value for key, value in offered.items() if key in takes}
    try:
        signature.bind(**given)
    except TypeError as error:
        raise ValueError(
            f"{name} cannot be called with {', '.join(offered)}: {error}. It gets those of them "
            "that it takes by name; every other argument needs a default."
        ) from error
    return given


def _own_factory(name: str) -> Callable[..., Any]:
    text, _, function = name.rpartition(":")
    path = Path(text).expanduser()
    wrong = ""
    if path.suffix != ".py":
        wrong = f"{text!r} is no .py file"
    elif not path.is_file():
        wrong = f"there is no file {text}"
    elif not function.isidentifier():
        wrong = f"{function!r} after the colon is not the name of a function"
    if wrong:
        raise ValueError(
            f"{name!r} names no factory: {wrong}. An existing Python file, a colon and a function "
            "in it are needed: path/to/factory.py:build."
        )
    spec = importlib.util.spec_from_file_location(f"_factory_{path.stem}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # its dataclasses and pickles look here
    spec.loader.exec_module(module)
    factory = getattr(module, function, None)
    if not callable(factory):
        defined = sorted(k for k, v in vars(module).items() if callable(v) and k[0] != "_")
        raise ValueError(
            f"{path} defines no function {function!r}; it has: {', '.join(defined) or 'none'}."
        )
    return factory  # type: ignore[no-any-return]
