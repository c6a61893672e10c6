"""Caches of models in Transformers, sized without weights: models run on tensors without values."""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from bench.core.cli.errors import ConfigError, did_you_mean

EVERY = "all"
"""Name that stands for every decoder of the installed Transformers."""

STEP = 128
"""Tokens between two measured lengths; a multiple of every block that a cache compresses."""


@dataclass(frozen=True, kw_only=True)
class Leaf:
    """A tensor of a cache, after a context.

    Attributes:
        layer: index of its layer.
        kind: of the layer, in words.
        part: one of `PARTS`.
        num_bytes: its size.
        growth_bytes: bytes that the next token adds, on average.
    """

    layer: int
    kind: str
    part: str
    num_bytes: int
    growth_bytes: float


class Refused(Exception):
    """A model whose cache cannot be sized, and why."""


def _decoders() -> list[str]:
    """Model types of Transformers that predict the next token.

    Raises:
        ConfigError: Transformers is not installed.
    """
    if importlib.util.find_spec("transformers") is None:
        raise ConfigError(
            "model=... needs Transformers, which is not installed. Install it with "
            "pip install 'attnbench[transformers]'."
        )
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    return sorted(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)


def model_names(given: Sequence[str], *, paths: bool = True) -> list[str]:
    """The models that are named, with `EVERY` replaced by all of them.

    Args:
        given: model types and paths.
        paths: whether a path is a name.

    Raises:
        ConfigError: a name is none of these.
    """
    if not given:
        return []
    known = _decoders()
    for name in given:
        if name not in known and name != EVERY and not (paths and Path(name).exists()):
            raise ConfigError(
                f"model={name} is not a decoder of the installed Transformers"
                f"{', nor a path' if paths else ''}. {did_you_mean(name, known)}"
            )
    return known if EVERY in given else list(given)


def config_of(name: str) -> Any:
    """The configuration of a model type, with its default sizes, or of a path.

    Raises:
        Refused: Transformers cannot make it.
    """
    from transformers import CONFIG_MAPPING, AutoConfig

    try:
        if Path(name).exists():
            return AutoConfig.from_pretrained(name, local_files_only=True)
        return CONFIG_MAPPING[name]()
    except Exception as error:
        raise Refused(f"its configuration cannot be made: {first_line(error)}") from error


def model_of(config: Any, dtype: torch.dtype) -> nn.Module:
    """The model of a configuration, in eval mode, on the default device.

    Raises:
        Refused: Transformers cannot build it.
    """
    from transformers import AutoModelForCausalLM

    # Experts one after the other read which tokens are theirs, and there are no values to read.
    for more in ({"experts_implementation": "batched_mm"}, {}):
        try:
            build = partial(AutoModelForCausalLM.from_config, attn_implementation="eager")
            model: nn.Module = build(config, dtype=dtype, **more)
        except Exception as error:
            reason = first_line(error)
        else:
            return model.eval()
    raise Refused(f"it cannot be built: {reason}")


def leaves_of(model: nn.Module, tokens: int, dtype: torch.dtype | None) -> Iterator[Leaf]:
    """Tensors of a model's cache after `tokens`; states in `dtype`, or as the model keeps them.

    Beyond a few blocks of `STEP` tokens they are extrapolated, from lengths that lie whole blocks
    apart, so that what is kept of an unfinished block is the same.
    """
    first = tokens if tokens <= 4 * STEP else 2 * STEP + tokens % STEP
    caches = [_cache(model, first + i * STEP) for i in range(3 if tokens > first else 2)]
    for place, one in caches[0].items():
        sizes = [cache[place].tensor.numel() for cache in caches if place in cache]
        # A window keeps one token less than it is wide: the next token is within it, too.
        limit = one.window - 1 if one.window else first + len(caches) * STEP + tokens
        blocks = [min(first + i * STEP, limit) - min(first, limit) for i in range(len(caches))]
        each = (sizes[1] - sizes[0]) / blocks[1] if blocks[1] else sizes[0] / min(first, limit)
        if sizes != [sizes[0] + block * each for block in blocks]:
            raise Refused(f"{place} of its cache does not grow evenly: {sizes} elements")
        count = sizes[0] + (min(tokens, limit) - min(first, limit)) * each
        growth = each if tokens < limit else 0
        own_item = one.tensor.element_size()
        item = dtype.itemsize if dtype is not None and one.part == "states" else own_item
        yield Leaf(
            layer=one.layer,
            kind=one.kind,
            part=one.part,
            num_bytes=round(count * item),
            growth_bytes=growth * item,
        )


@dataclass(frozen=True, kw_only=True)
class _Kept:
    layer: int
    kind: str
    part: str
    window: int
    tensor: Tensor


def _cache(model: nn.Module, tokens: int) -> dict[str, _Kept]:
    """The tensors that a model keeps of so many tokens, by their place in its cache."""
    try:
        out: Any = model(input_ids=torch.zeros(1, tokens, dtype=torch.long), use_cache=True)
    except Exception as error:
        raise Refused(f"it cannot be run without values: {first_line(error)}") from error
    cache = getattr(out, "past_key_values", None)
    cache = getattr(out, "cache_params", None) if cache is None else cache
    return kept_of(cache, model.config)


def kept_of(cache: Any, config: Any) -> dict[str, _Kept]:
    """The tensors of a cache by their place, such as ``layers.3.keys``.

    Raises:
        Refused: there are none.
    """
    kinds = getattr(config.get_text_config(decoder=True), "layer_types", None) or ()
    layers = getattr(cache, "layers", ())
    found: dict[str, _Kept] = {}
    for place, tensor in _tensors(cache):
        _, index, *rest = [*place.split("."), "", ""]
        layer = int(index) if index.isdigit() else 0
        own = layers[layer] if place.startswith("layers.") else cache
        kind = kinds[layer] if layer < len(kinds) else _KINDS.get(type(own).__name__, "layer")
        window = getattr(own, "sliding_window", 0) if rest[0] in ("keys", "values") else 0
        found[place] = _Kept(
            layer=layer,
            kind=kind.replace("_", " "),
            part=_part(place),
            window=int(window or 0),
            tensor=tensor,
        )
    if not found:
        raise Refused("its output has no cache")
    return found


_KINDS = {
    "DynamicLayer": "full attention",
    "DynamicSlidingWindowLayer": "sliding attention",
    "LinearAttentionLayer": "linear attention",
    "LinearAttentionAndFullAttentionLayer": "linear and full attention",
}
"""Kinds of layers whose configuration does not name them, by the class of their cache."""

_NAMES = {
    "indexer": "indexer",
    "conv": "convolution tails",
    "recurrent": "states",
    "rnn": "states",
    "ssm": "states",
    "linear_cache": "states",
    "keys": "keys and values",
    "values": "keys and values",
    "kv": "keys and values",
    "gate": "keys and values",
}
"""Part of a cache by a piece of a tensor's name; the first that fits."""


def _part(place: str) -> str:
    return next((part for name, part in _NAMES.items() if name in place), "other")


def _tensors(kept: Any, place: str = "") -> Iterator[tuple[str, Tensor]]:
    """Tensors of numbers with a fraction that an object holds, with the names of their places."""
    if isinstance(kept, Tensor):
        if kept.is_floating_point():
            yield place.lstrip("."), kept
    elif isinstance(kept, dict):
        for name, one in kept.items():
            yield from _tensors(one, f"{place}.{name}")
    elif isinstance(kept, (list, tuple)):
        for i, one in enumerate(kept):
            yield from _tensors(one, f"{place}.{i}")
    elif type(kept).__module__.startswith("transformers.") and hasattr(kept, "__dict__"):
        yield from _tensors({k: v for k, v in vars(kept).items() if k != "config"}, place)


@contextmanager
def quiet() -> Iterator[None]:
    """Silence what Transformers says about missing kernels: nothing is computed here."""
    from transformers.utils import logging

    level = logging.get_verbosity()
    logging.set_verbosity(50)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.set_verbosity(level)


def first_line(error: BaseException) -> str:
    """The first line of an error's text, or its type."""
    return (str(error).strip().splitlines() or [""])[0][:160] or type(error).__name__
