"""Our names for official mechanisms, weights and hyperparameters; data is in the YAML beside it.

A golden folder named as one of our mechanisms, with our names for its weights, and with our
hyperparameters under ``settings``, needs no entry. Any other needs one `Form` in map.yaml; files
that prove nothing of ours need one with a `reason`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from .files import Header

LookUp = Callable[[Header], Any]
"""Derives a value from a header."""


@dataclass(frozen=True, kw_only=True)
class Form:
    """One form that files of a folder have, and how it maps to ours.

    Attributes:
        mechanism: our registered name; that of the folder if None.
        reason: why files of this form prove nothing; else None.
        when: which files have it; the first form of a folder that fits is taken.
        defaults: the official code's hyperparameters where a file states none, by our names.
        hyper: official hyperparameter -> ours. Others are ignored: they describe the formula, and
            if ours differed, the numbers would.
        derived: our hyperparameter -> how it follows from a header; None if it does not.
        weights: official weight, or a prefix of its dotted name -> ours. Several of ours share the
            rows of one official weight in the order given. Others keep their name.
        not_weights: tables that ours computes itself.
        inputs: official input -> our argument. Others keep their name.
        tokens_first: inputs and outputs of heads are (B, N, H, ...) instead of (B, H, N, ...).
        features: stored result -> our method that gives it, and the input that it takes.
        method: our method that gives `out` of (B, H, N, D) inputs; None for a whole call.
        grid: how the tokens' grid follows from a header that does not state it; empty if it does
            not.
        layer: our layer in which the mechanism, a published core, takes the place of the core; None
            if the files are about the mechanism itself.
        unfused: our settings for a kernel that materialises the weights, as the code behind the
            official float32 bounds does; where a fused kernel is beyond one, this one decides.
    """

    mechanism: str | None = None
    reason: str | None = None
    when: Callable[[Header], bool] = lambda header: True
    defaults: Mapping[str, Any] = field(default_factory=dict)
    hyper: Mapping[str, str] = field(default_factory=dict)
    derived: Mapping[str, LookUp] = field(default_factory=dict)
    weights: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    not_weights: frozenset[str] = frozenset()
    inputs: Mapping[str, str] = field(default_factory=dict)
    tokens_first: bool = False
    features: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    method: str | None = None
    grid: Callable[[Header], tuple[int, ...]] | None = None
    layer: str | None = None
    unfused: Mapping[str, Any] = field(default_factory=dict)


def form_of(header: Header) -> Form:
    """Find the form that a case has; one named after its folder if there is no entry."""
    for form in FORMS.get(header.mechanism, ()):
        if form.when(header):
            return form
    return Form(mechanism=header.mechanism)


def mechanisms_of(folder: str) -> frozenset[str]:
    """Our mechanisms that files of a golden folder can be about."""
    forms = FORMS.get(folder, (Form(mechanism=folder),))
    return frozenset(form.mechanism for form in forms if form.mechanism)


def _size(header: Header, tensor: str, axis: str) -> int | None:
    """Length of a stored tensor along an axis; None if it is not stored."""
    shape = header.shapes.get(tensor)
    return None if shape is None else shape[int(axis)]


def _number(header: Header, key: str) -> float | None:
    """An official hyperparameter; None if it is missing, or a formula in words."""
    stated = header.hyper.get(key)
    is_number = isinstance(stated, int | float) and not isinstance(stated, bool)
    return stated if is_number else None


def _lambda_init(header: Header) -> float | None:
    """Differential attention's initial lambda in the layer at this depth; None without a depth."""
    depth = header.hyper.get("depth")
    return None if depth is None else 0.8 - 0.6 * math.exp(-0.3 * depth)


_LOOK_UPS: dict[str, Callable[..., Any]] = {
    "has": lambda header, *names: any(name in header.shapes for name in names),
    "lacks": lambda header, name: name not in header.shapes,
    "tag": lambda header, tag: tag in header.tags,
    "number": _number,
    "size": _size,
    "sizes": lambda header, tensor, count: header.shapes.get(tensor, ())[: int(count)],
    "count": lambda header, tensor, axis: _size(header, tensor, axis) or 0,
    # Of one folder each.
    "causal_relu": lambda header: "causal" in header.tags and header.hyper.get("kernel") == "relu",
    "headwise": lambda header: len(header.shapes.get("in.gate", ())) == 3,
    "householders": lambda header: 1 + (_size(header, "in.more_keys", "3") or 0),
    "lambda_init": _lambda_init,
    "vanilla": lambda header: "softmax" in header.tags or header.entry.startswith("Vanilla"),
    "window": lambda header: header.hyper.get("sliding_window") or None,  # 0 means no window
}
"""Look-ups by the first of their words; the others are arguments, such as names of tensors."""


def _look_up(words: str) -> LookUp:
    name, *given = words.split()
    return lambda header: _LOOK_UPS[name](header, *given)


_READERS: dict[str, Callable[[Any], Any]] = {
    "when": _look_up,
    "grid": _look_up,
    "derived": lambda own: {name: _look_up(words) for name, words in own.items()},
    "weights": lambda own: {theirs: tuple(ours.split()) for theirs, ours in own.items()},
    "features": lambda own: {result: tuple(words.split()) for result, words in own.items()},
    "not_weights": frozenset,
}


def _form(folder: str, row: Mapping[str, Any]) -> Form:
    """The form of a row of the YAML; its mechanism is named as the folder unless it says so."""
    own = {"mechanism": folder, **row}
    own["hyper"] = {name: name for name in own.pop("same", ())} | own.get("hyper", {})
    own["weights"] = {name: f"core.{name}" for name in own.pop("core", ())} | own.get("weights", {})
    return Form(**{key: _READERS.get(key, lambda given: given)(own[key]) for key in own})


FORMS: dict[str, tuple[Form, ...]] = {
    folder: tuple(_form(folder, row) for row in (rows if isinstance(rows, list) else [rows]))
    for folder, rows in yaml.safe_load(
        Path(__file__).with_suffix(".yaml").read_text("utf-8")
    ).items()
}
