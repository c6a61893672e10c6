"""Our names for official mechanisms, weights and hyperparameters. Data, and nothing else.

A golden folder named as one of our mechanisms, with our names for its weights, and with our
hyperparameters under ``settings``, needs no entry. Any other needs one `Form` in `FORMS`; files
that prove nothing of ours need one with a `reason`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from bench.studies.golden.files import Header

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


def _is_module(header: Header) -> bool:
    return "in.x" in header.shapes


def _is_causal(header: Header) -> bool:
    return "causal" in header.tags


def _number(key: str) -> Callable[[Header], float | None]:
    """Look up an official hyperparameter; None if it is missing, or a formula in words."""

    def look_up(header: Header) -> float | None:
        stated = header.hyper.get(key)
        is_number = isinstance(stated, int | float) and not isinstance(stated, bool)
        return stated if is_number else None

    return look_up


def _size(tensor: str, axis: int) -> Callable[[Header], int | None]:
    """Look up the length of a stored tensor along an axis; None if it is not stored."""

    def look_up(header: Header) -> int | None:
        shape = header.shapes.get(tensor)
        return None if shape is None else shape[axis]

    return look_up


def _has(*weights: str) -> Callable[[Header], bool]:
    """Test whether one of some weights is stored."""
    return lambda header: any(f"w.{weight}" in header.shapes for weight in weights)


def _same(*names: str) -> dict[str, str]:
    """Official hyperparameters that have our names."""
    return {name: name for name in names}


def _of_core(*weights: str) -> dict[str, tuple[str, ...]]:
    """Official weights of a layer that lie in our layer's core."""
    return {weight: (f"core.{weight}",) for weight in weights}


_ROPE_TABLES = frozenset({"rope_sin", "rope_cos"})
_NALA_HYPER = _same("lam", "tau", "key_power", "eps")
_NALA_DEFAULTS = {"lam": 3, "tau": 0.5, "key_power": 3, "eps": 1e-6}
_FLATTEN_HYPER = {"focusing_factor": "focusing_factor", "eps_z": "eps"}
_FLATTEN_DEFAULTS = {"focusing_factor": 3, "eps": 1e-6, "norm_over": "all_heads"}
_NALA_WEIGHTS = {"ln": ("norm",), "out_proj": ("proj",)}
_REDUCED: dict[str, LookUp] = {
    "kernel_size": _size("w.dwc.weight", -1),
    "sr_ratio": _size("w.sr.weight", -1),
}
_REDUCED_WEIGHTS = {"sr": ("reduced.sr",), "norm": ("reduced.norm",)}
_SCALE: dict[str, LookUp] = {"scale": _number("scale")}
_DECAY = {"g": "log_decay"}
_KEYS_AS_THEY_COME = {"normalise_keys": False}
_FORGETS: dict[str, LookUp] = {"forget_gate": lambda header: "in.log_decay" in header.shapes}


def _lambda_init(header: Header) -> float | None:
    """Differential attention's initial lambda in the layer at this depth; None without a depth."""
    depth = header.hyper.get("depth")
    return None if depth is None else 0.8 - 0.6 * math.exp(-0.3 * depth)


_TABLE: dict[str, Form | tuple[Form, ...]] = {
    # A fused kernel keeps the logarithm of a row's sum of weights, and its backward pass takes the
    # weights from it: where scores are in the hundreds, the float32 rounding of that logarithm is
    # some 1e-5 of each weight, which materialised weights do not lose.
    "softmax": Form(unfused={"backend": "math"}),
    "linear_elu": Form(mechanism="linear", hyper=_same("eps"), defaults={"eps": 1e-6}),
    "performer": (
        Form(
            when=lambda header: _is_causal(header) and header.hyper.get("kernel") == "relu",
            reason=(
                "the reference adds 1e-6 to the keys' sums in its causal form alone; ours is the "
                "bidirectional form on the tokens so far, which has none"
            ),
        ),
        Form(
            when=_is_causal,
            reason=(
                "the reference leaks the future: its key stabiliser is the largest value over all "
                "positions, which a strictly causal form cannot reproduce"
            ),
        ),
        # Without a projection it has no random features: it is Efficient Attention.
        Form(mechanism="efficient", when=lambda header: not _has("projection")(header)),
        Form(
            hyper=_same("kernel", "eps", "ortho_scaling")
            | {"nb_features": "num_features", "kernel_epsilon": "relu_eps"},
            defaults={"kernel": "softmax", "eps": 1e-4, "relu_eps": 1e-3, "ortho_scaling": 0},
            derived={"num_features": _size("w.projection", 0)},
            features={"phi_q": ("query_features", "q"), "phi_k": ("key_features", "k")},
        ),
    ),
    "flatten": (
        Form(
            mechanism="flatten_layer",
            when=_is_module,
            hyper=_FLATTEN_HYPER | _same("kernel_size", "sr_ratio", "qkv_bias"),
            defaults=_FLATTEN_DEFAULTS | {"sr_ratio": 1},
            derived=_REDUCED | {"qkv_bias": _has("q.bias", "qkv.bias")},
            weights={"qkv": ("q", "kv")} | _of_core("scale") | _REDUCED_WEIGHTS,
        ),
        Form(hyper=_FLATTEN_HYPER, defaults=_FLATTEN_DEFAULTS, weights={"scale_raw": ("scale",)}),
    ),
    "nala": (
        Form(
            mechanism="nala_vanilla",
            when=lambda header: "softmax" in header.tags or header.entry.startswith("Vanilla"),
            derived={"rope": _has("rope_sin")},
            weights=_NALA_WEIGHTS,
            not_weights=_ROPE_TABLES,
        ),
        Form(
            mechanism="nala_layer",
            when=_is_module,
            hyper=_NALA_HYPER,
            defaults=_NALA_DEFAULTS,
            derived={"rope": _has("rope_sin")},
            weights=_NALA_WEIGHTS,
            not_weights=_ROPE_TABLES,
        ),
        Form(
            hyper=_NALA_HYPER,
            defaults=_NALA_DEFAULTS,
            derived={"rope": _has("rope_sin")},
            not_weights=_ROPE_TABLES,
        ),
    ),
    "nala_cosine": Form(
        hyper=_NALA_HYPER | _same("alpha"), defaults=_NALA_DEFAULTS | {"alpha": 20}
    ),
    "efficient": (
        Form(
            mechanism="efficient_layer",
            when=_is_module,
            hyper=_same("key_channels", "value_channels"),
            weights={
                **{"queries": ("q",), "keys": ("k",)},
                **{"values": ("v",), "reprojection": ("proj",)},
            },
        ),
        Form(),
    ),
    "cosformer": Form(derived={"eps": _number("eps")}),
    "hedgehog": Form(
        when=_is_module,
        defaults={"normaliser": "joint", "tie_heads": True, "tie_qk": True},
        weights={"layer": ("map_q",)},
        method="query_features",
    ),
    "polaformer": (
        Form(
            mechanism="polaformer_layer",
            when=_is_module,
            hyper=_same("alpha", "eps", "kernel_size", "sr_ratio", "qkv_bias"),
            defaults={"alpha": 4, "eps": 1e-6, "sr_ratio": 1},
            derived=_REDUCED | {"qkv_bias": _has("qg.bias")},
            weights=_of_core("power", "scale") | _REDUCED_WEIGHTS,
        ),
        Form(
            hyper=_same("alpha", "eps"),
            defaults={"alpha": 4, "eps": 1e-6},
            weights={"power_raw": ("power",), "scale_raw": ("scale",)},
        ),
    ),
    "polaformer_pp": Form(hyper=_same("eps"), defaults={"eps": 1e-6}, not_weights=_ROPE_TABLES),
    "mlla": Form(
        hyper=_same("eps"),
        defaults={"eps": 1e-6},
        derived={"qk_bias": _has("qk.bias")},
        not_weights=frozenset({"rope.rotations"}),
        grid=lambda header: header.shapes.get("w.rope.rotations", ())[:2],
    ),
    "inline": (
        Form(
            mechanism="inline_layer",
            when=_is_module,
            # The authors' DeiT, the only form with a file: its first token is not on the grid.
            defaults={"class_token": True},
            derived={"qkv_bias": _has("qkv.bias")},
        ),
        Form(),
    ),
    "agent": Form(
        mechanism="agent_layer",
        hyper={"agent_num": "num_agents"},
        derived={"class_token": _has("ac_bias"), "qkv_bias": _has("qkv.bias")},
        weights=_of_core(*(f"{a}_bias" for a in ("an", "na", "ah", "aw", "ha", "wa", "ac", "ca"))),
    ),
    "linformer": Form(
        mechanism="linformer_layer",
        hyper=_same("share_kv") | {"k": "projected_len"},
        derived={
            "projected_len": _size("w.proj_k", -1),
            "share_kv": lambda header: not _has("proj_v")(header),
            "values_are_keys": lambda header: not _has("to_v.weight")(header),
        },
        weights=_of_core("proj_k", "proj_v"),
    ),
    "nystrom": Form(
        mechanism="nystromformer",
        hyper=_same("num_landmarks", "pinv_iters", "conv_kernel_size"),
        defaults={"pinv_iters": 6, "pinv_init": "batch"},
        derived={"conv_kernel_size": _size("w.conv.weight", -2)},
    ),
    "based_taylor": Form(mechanism="taylor", hyper=_same("eps"), defaults={"eps": 1e-6}),
    "simple_gla": Form(derived=_SCALE, inputs=_DECAY),
    "gla": Form(derived=_SCALE, inputs=_DECAY),
    "retnet": Form(derived=_SCALE),
    # Their recurrences take keys as they are: the caller has normalised them to unit length.
    "deltanet": Form(defaults=_KEYS_AS_THEY_COME, derived=_SCALE),
    "gated_deltanet": Form(defaults=_KEYS_AS_THEY_COME, derived=_SCALE, inputs=_DECAY),
    "kda": Form(defaults=_KEYS_AS_THEY_COME, derived=_SCALE),
    "differential": Form(hyper=_same("norm", "lambda_init"), derived={"lambda_init": _lambda_init}),
    "fox": Form(hyper=_same("window")),
    # In the authors' code 0 means no window.
    "softmax_sinks": Form(
        derived={"window": lambda header: header.hyper.get("sliding_window") or None}
    ),
    "rala": Form(hyper=_same("rope", "eps")),
    "moba": Form(hyper=_same("block_size", "top_k")),
    "gated_attention": Form(
        derived={"headwise": lambda header: len(header.shapes["in.gate"]) == 3}
    ),
    "nsa": Form(hyper=_same("block_size", "num_blocks", "window")),
    "dsa": Form(
        hyper=_same("top_k"),
        derived={"index_heads": _size("in.index_q", 1), "index_dim": _size("in.index_q", 3)},
    ),
    "path": Form(derived=_FORGETS),
    "gated_deltaproduct": Form(
        defaults=_KEYS_AS_THEY_COME,
        derived=_FORGETS
        | {"num_householder": lambda header: 1 + (_size("in.more_keys", 3)(header) or 0)},
    ),
    "mesanet": Form(
        hyper=_same("solver", "iterations"),
        defaults=_KEYS_AS_THEY_COME | {"normalise_queries": False},
    ),
    "log_linear": Form(derived={"num_levels": _size("in.level_scale", -1)}),
    "mamba3": Form(derived={"num_angles": lambda header: _size("in.angle", -1)(header) or 0}),
    "rwkv6": Form(derived=_SCALE),
    "comba": Form(defaults=_KEYS_AS_THEY_COME),
    "gsa": Form(derived={"num_slots": _size("in.slot", -1)}),
    "gated_deltanet2": Form(defaults=_KEYS_AS_THEY_COME),
    "mamba2_ssd": Form(inputs={"X": "v", "A": "log_decay", "Bm": "k", "C": "q"}, tokens_first=True),
}


def _named(form: Form, folder: str) -> Form:
    return replace(form, mechanism=form.mechanism or folder)


FORMS: dict[str, tuple[Form, ...]] = {
    folder: tuple(_named(form, folder) for form in (own if isinstance(own, tuple) else (own,)))
    for folder, own in _TABLE.items()
}
