"""Mechanisms in models of Hugging Face Transformers: importing this enters them by name.

    import attentions.huggingface
    model = AutoModelForCausalLM.from_config(config, attn_implementation="attnbench:linear")

The model keeps its projections, position encodings and masks; the mechanism mixes. Whatever it
cannot do, such as a mask that it takes none of, is refused with a ValueError when it is asked for.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import nn
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel

from ...capabilities import PUBLISHED
from ...registry import attention_class, attention_names
from ..swapped import Wish, why_gated
from ..token_layout import TokenLayout
from .cache import RecurrentCache
from .cores import ATTACHED, Attaching, attaching
from .forward import AttentionFunction
from .masks import short_mask
from .models import attentions_of, check

__all__ = ["PREFIX", "RecurrentCache", "attach", "check", "implementations", "register"]

PREFIX = "attnbench:"
"""Prefix of the names of implementations."""

M = TypeVar("M", bound=nn.Module)


def implementations() -> tuple[str, ...]:
    """Values of ``attn_implementation``: all cores of ours that need no more than q, k and v."""
    return tuple(
        PREFIX + name
        for name in attention_names()
        if _is_usable(name) and attention_class(name).family != PUBLISHED
    )


def _is_usable(mechanism: str) -> bool:
    return not _why_unusable(mechanism)


def _why_unusable(mechanism: str) -> str:
    """Why a mechanism cannot stand inside the model's attention; empty if it can."""
    can = attention_class(mechanism).capabilities
    if why := why_gated(mechanism):
        return why
    if "core" not in can.scopes:
        return "owns its projections"
    if "flash" in mechanism:  # is_flash_attention_requested of transformers.utils.generic
        return (
            "has a name with 'flash', which Transformers takes for its own implementations, such "
            "as attn_implementation='flash_attention_2'"
        )
    return ""


def register() -> None:
    """Register all mechanisms; call it again after registering one of your own."""
    for name in implementations():
        AttentionInterface.register(name, AttentionFunction(name.removeprefix(PREFIX)))
        # Without this entry Transformers makes no mask at all, and padding would be seen.
        AttentionMaskInterface.register(name, short_mask)


def attach(
    model: M,
    mechanism: str,
    *,
    inputs: Mapping[str, Any] | None = None,
    seq_len: int | None = None,
    grid: tuple[int, int] | None = None,
    **hyperparameters: Any,
) -> M:
    """Put a mechanism into a model with hyperparameters or with parameters that are trained.

    Each attention gets a core as its submodule, so that parameters reach the optimiser and the
    state dict. The attentions are found by calling the model once, without gradients.

    ``save_pretrained`` keeps the weights of the cores and not the mechanism: `from_pretrained` has
    the model's own attention, attach the mechanism again, and then load the saved weights.

    Args:
        model: a Transformers model, changed in place.
        mechanism: registered name of a core, which may begin with `PREFIX`.
        inputs: a call's keyword arguments; the model's ``dummy_inputs`` unless given.
        seq_len: how many tokens there are, or at most; ``max_position_embeddings`` unless given.
        grid: (rows, columns) of the tokens, for mechanisms that need it.
        hyperparameters: the mechanism's own.

    Returns:
        The model.

    Raises:
        ValueError: the mechanism cannot do what the model needs; the model is as it was.
        TypeError: a hyperparameter that the mechanism does not take.
    """
    if not isinstance(model, PreTrainedModel):
        raise ValueError(f"model is of type {type(model).__name__}; one of transformers is needed.")
    if inputs is not None and not isinstance(inputs, Mapping):
        raise ValueError(
            f"inputs is of type {type(inputs).__name__}; a call's keyword arguments are needed, by "
            "name."
        )
    if isinstance(mechanism, str):
        mechanism = mechanism.removeprefix(PREFIX)
    if why := _why_unusable(mechanism):
        raise ValueError(f"{mechanism} {why}; it cannot stand inside the model's attention.")
    ignoring, asking = attentions_of(model)
    if ignoring and not asking:
        raise ValueError(f"{mechanism} cannot be attached: {check(model)}")
    register()
    changed: Any = model
    inputs = _example(changed) if inputs is None else inputs
    wish = Wish(mechanism=mechanism, settings=hyperparameters)
    to_do = Attaching(wish=wish, layout=TokenLayout(seq_len=seq_len, grid=grid))
    before = changed.config._attn_implementation
    old = {m: m._modules.pop(ATTACHED) for m in model.modules() if ATTACHED in m._modules}
    try:
        changed.set_attn_implementation(PREFIX + mechanism)
        with attaching(to_do), torch.no_grad(), _evaluating(model):
            changed(**inputs)
        if not to_do.modules:
            raise ValueError(f"{type(model).__name__} called no attention through its interface.")
        for module in to_do.modules:
            getattr(module, ATTACHED).train(module.training)
    except BaseException:
        for module in to_do.modules:
            del module._modules[ATTACHED]
        for module, core in old.items():
            module.add_module(ATTACHED, core)
        changed.set_attn_implementation(before)
        raise
    if ignoring:
        warnings.warn(str(check(model)), stacklevel=2)
    return model


def _example(model: Any) -> Mapping[str, Any]:
    """Example call of a text model.

    Raises:
        ValueError: it is called with something else.
    """
    if model.main_input_name != "input_ids":
        raise ValueError(
            f"{type(model).__name__} is called with {model.main_input_name}; give an example of a "
            f"call as inputs={{{model.main_input_name!r}: ...}}."
        )
    # Without a cache: a model's own may not fit a configuration with recurrent layers only.
    return {**model.dummy_inputs, "use_cache": False}


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, training in modes.items():
            module.training = training


register()
