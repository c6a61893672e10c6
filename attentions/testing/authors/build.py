"""Our mechanism, built with the geometry, hyperparameters and weights of a golden."""

from __future__ import annotations

from dataclasses import replace
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor, nn

from ...capabilities import PUBLISHED
from ...geometry import Geometry
from ...maths.shared_heads import SharedHeads
from ...registry import attention_class, attention_names, build_attention, hyperparameters
from .files import Golden, Header
from .map import Form

_SWITCHES = frozenset({"causal", "mask", "key_mask"})
"""Stored among the weights, but part of the geometry or arguments of the call."""

GEOMETRY_KEYS = frozenset({"num_heads", "heads", "seq_len", "H", "W", "grid", "window"})
"""Official hyperparameters that our `Geometry` holds."""


class Mismatch(Exception):
    """The golden does not fit our mechanism, such as a weight that the other side lacks."""


def is_published(name: str | None) -> bool:
    """Whether a registered name is an entry of the authors' own operators."""
    return name in attention_names() and attention_class(name).family == PUBLISHED


def published_form(form: Form) -> Form | None:
    """Form of the same files for the entry of the authors' operators; None if there is none.

    If only the core has such an entry, files about the layer test it inside our layer.
    """
    ours = form.mechanism
    if ours is None or form.reason is not None:
        return None
    if is_published(f"{ours}_published"):
        return replace(form, mechanism=f"{ours}_published")
    core = f"{ours.removesuffix('_layer')}_published"
    return replace(form, mechanism=core, layer=ours) if is_published(core) else None


def runtime_form(form: Form) -> Form | None:
    """Form of the same files for the row that a runtime computes; None if there is none."""
    name = f"{form.mechanism}_ort"
    is_there = form.reason is None and name in attention_names()
    return replace(form, mechanism=name) if is_there else None


def not_theirs(golden: Golden, form: Form, name: str) -> str | None:
    """Settings that a golden needs and the authors' code does not have, in words; None without."""
    ours = hyperparameters(form.layer or name.removesuffix("_published"))
    taken = (ours if form.layer else {}) | hyperparameters(name)
    wanted = _settings(golden, form)
    lacking = [key for key, value in wanted.items() if key not in taken and value != ours.get(key)]
    return ", ".join(f"{key}={wanted[key]}" for key in lacking) or None


def _geometry(golden: Golden, form: Form, name: str) -> Geometry:
    shapes, hyper = golden.header.shapes, golden.header.hyper
    grid = _grid(golden, form)
    if form.method is not None:
        heads, seq_len, head_dim = shapes["in.x"][-3:]
        return Geometry(num_heads=heads, head_dim=head_dim, seq_len=seq_len)
    if "in.x" not in shapes:
        ours = call_shapes(golden.header, form)
        if absent := {"q", "k", "v"} - ours.keys():
            raise Mismatch(f"the golden has no input for {', '.join(sorted(absent))}")
        if odd := [key for key in ("q", "k", "v") if len(ours[key]) != 4]:
            raise Mismatch(
                f"the golden's input for {odd[0]} is of shape {ours[odd[0]]}; a batch, heads, "
                "tokens and channels are needed"
            )
        heads, queries, head_dim = ours["q"][-3:]
        kv_heads, keys, value_dim = ours["v"][-3:]
        seq_len = max(queries, keys)
        return Geometry(
            num_heads=heads,
            num_kv_heads=kv_heads,
            head_dim=head_dim,
            value_dim=value_dim,
            seq_len=seq_len,
            causal=is_causal(golden, name),
            grid=grid if grid[0] * grid[1] == seq_len else (0, 0),
        )
    shape = shapes["in.x"]
    embed_dim, seq_len = (
        (shape[1], shape[2] * shape[3]) if len(shape) == 4 else (shape[2], shape[1])
    )
    seq_len = max(seq_len, hyper.get("seq_len", 0))  # an upper bound, where they state one
    heads = _num_heads(golden)
    if embed_dim % heads:
        raise Mismatch(f"{embed_dim} channels cannot be split into {heads} heads")
    return Geometry(
        num_heads=heads,
        head_dim=embed_dim // heads,
        seq_len=seq_len,
        causal=is_causal(golden, name),
        # A class token has no place on the grid that they state.
        grid=grid if grid[0] * grid[1] != seq_len - 1 else (0, 0),
    )


def _num_heads(golden: Golden) -> int:
    stored = golden.tensors.get("in.heads")
    hyper = golden.header.hyper
    stated = hyper.get("num_heads", hyper.get("heads", None if stored is None else stored.item()))
    if not isinstance(stated, int) or stated < 1:
        raise Mismatch(
            f"the golden says {stated!r} for the number of heads; a count is needed, as num_heads "
            "or heads among its hyperparameters or as in.heads among its tensors"
        )
    return stated


def call_shapes(header: Header, form: Form) -> dict[str, tuple[int, ...]]:
    """Our argument -> the shape of the input that is passed for it, in our layout."""
    stored = {key.removeprefix("in."): s for key, s in header.shapes.items() if key[:3] == "in."}
    shapes = {form.inputs.get(key, key): shape for key, shape in stored.items()}
    if form.tokens_first:
        return {key: (*s[:1], *s[2:3], *s[1:2], *s[3:]) for key, s in shapes.items()}
    return shapes


def _grid(golden: Golden, form: Form) -> tuple[int, int]:
    """(rows, columns) by the input, a hyperparameter or a weight; (0, 0) if none states them."""
    shapes, hyper = golden.header.shapes, golden.header.hyper
    if form.grid is not None and (followed := form.grid(golden.header)):
        rows, columns = followed
        return rows, columns
    if len(shapes.get("in.x", ())) == 4:
        return shapes["in.x"][2], shapes["in.x"][3]
    if "H" in hyper and "W" in hyper:
        return hyper["H"], hyper["W"]
    stated = hyper.get("grid", hyper.get("window", (0, 0)))
    if isinstance(stated, int):
        return stated, stated
    if isinstance(stated, list | tuple) and len(stated) == 2:
        rows, columns = stated
        return rows, columns
    if "grid" in hyper:
        raise Mismatch(f"the golden says {stated!r} for its grid; rows and columns are needed")
    return 0, 0


def _settings(golden: Golden, form: Form) -> dict[str, Any]:
    """Our hyperparameters; stated ones take precedence over those that shapes or the code imply.

    Those that the file states by our names take precedence over all others.
    """
    header = golden.header
    followed = {name: look_up(header) for name, look_up in form.derived.items()}
    stated = {form.hyper[key]: value for key, value in header.hyper.items() if key in form.hyper}
    return {
        **form.defaults,
        **{name: value for name, value in followed.items() if value is not None},
        **stated,
        **header.settings,
    }


def build_like(
    golden: Golden, form: Form, name: str, dtype: torch.dtype = torch.float32
) -> nn.Module:
    """Build our mechanism `name` on a golden's device, with the official weights in a dtype.

    Raises:
        Mismatch: a weight of theirs or of ours is left over, or shapes do not agree.
        ValueError, TypeError: it cannot be built for these sizes or hyperparameters.
    """
    module = _build(golden, form, name).eval()
    # Before weights are copied, so that stored float64 values keep all digits.
    module.to(golden.tensors["out"].device, dtype)
    # Grouped heads are shared around the mechanism, whose weights these are.
    owner = module.core if isinstance(module, SharedHeads) else module
    learned = {_our_place(key): value for key, value in owner.named_parameters()}
    places = learned | {_our_place(key): value for key, value in owner.named_buffers()}
    missing = {key for key, value in learned.items() if value.numel()}
    missing -= _behind_given_gates(owner, golden, form)
    for official, value in golden.tensors.items():
        weight = official.removeprefix("w.")
        if weight == official or weight in _SWITCHES | form.not_weights:
            continue
        ours = _ours(weight, form)
        homeless = [key for key in ours if key not in places]
        if homeless:
            raise Mismatch(
                f"the official weight {weight} has no place: {name} has no {homeless[0]}"
            )
        _copy(weight, value, {key: places[key] for key in ours})
        missing -= set(ours)
    if missing:
        raise Mismatch(f"the golden gives no value for {name}'s {', '.join(sorted(missing))}")
    return module


def _behind_given_gates(owner: nn.Module, golden: Golden, form: Form) -> set[str]:
    """Parameters that are not used, as they only make gates which the golden gives as inputs."""
    core: Any = getattr(owner, "ours", owner)  # of a published entry
    shapes = call_shapes(golden.header, form)
    if "k" not in shapes or not hasattr(core, "learned_gates"):
        return set()
    learned = dict(core.named_parameters())
    gates = core.learned_gates(torch.zeros(shapes["k"]))
    made = [gate.sum() for name, gate in gates.items() if name in shapes and gate.requires_grad]
    if not made:
        return set()
    slopes = torch.autograd.grad(made, [*learned.values()], allow_unused=True)
    return {
        _our_place(key) for key, slope in zip(learned, slopes, strict=True) if slope is not None
    }


def _build(golden: Golden, form: Form, name: str) -> nn.Module:
    geometry, settings = _geometry(golden, form, name), _settings(golden, form)
    if not is_published(name):
        return build_attention(name, geometry, **settings)
    theirs = {key: value for key, value in settings.items() if key in hyperparameters(name)}
    if form.layer is None:
        return build_attention(name, geometry, **theirs)
    layer: Any = build_attention(form.layer, geometry, **settings)
    layer.core = build_attention(name, layer.core.geometry, **theirs)
    return layer  # type: ignore[no-any-return]


def _our_place(parameter: str) -> str:
    """Name of a value in our mechanism, which a published entry holds as its ``ours``."""
    return ".".join(word for word in parameter.split(".") if word != "ours")


def _copy(weight: str, value: Tensor, places: dict[str, Tensor]) -> None:
    """Fill our places with one official weight's rows, in order; axes of length 1 may differ."""
    rows = [place.shape[0] if place.dim() else 1 for place in places.values()]
    parts: list[Tensor] = [value]
    if len(rows) > 1:
        ends = list(accumulate(rows))
        parts = [value[end - size : end] for end, size in zip(ends, rows, strict=True)]
    used = sum(part.numel() for part in parts)
    alike = [_without_ones(part) for part in parts] == [_without_ones(p) for p in places.values()]
    if used != value.numel() or not alike:
        ours = ", ".join(f"{key} {tuple(place.shape)}" for key, place in places.items())
        raise Mismatch(f"the official weight {weight} is {tuple(value.shape)}, ours is {ours}")
    with torch.no_grad():
        for part, place in zip(parts, places.values(), strict=True):
            place.copy_(part.reshape(place.shape))


def _ours(weight: str, form: Form) -> tuple[str, ...]:
    """Our names for an official weight, by the longest entry that its dotted name begins with."""
    words = weight.split(".")
    for length in range(len(words), 0, -1):
        targets = form.weights.get(".".join(words[:length]))
        if targets is not None:
            return tuple(".".join((target, *words[length:])) for target in targets)
    return (weight,)


def _without_ones(tensor: Tensor) -> tuple[int, ...]:
    return tuple(size for size in tensor.shape if size != 1)


def is_causal(golden: Golden, name: str) -> bool:
    """Whether query i saw keys 0..i only: by a stored switch, else by a tag or as nothing else is.

    A mechanism that is causal only needs no tag.
    """
    stated = golden.tensors.get("w.causal")
    if stated is not None:
        return bool(stated.item())
    return "causal" in golden.header.tags or not attention_class(name).capabilities.bidirectional
