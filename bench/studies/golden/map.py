"""How official mechanisms, weights and hyperparameters are called here. Data, and nothing else.

A golden folder named as one of our mechanisms, with our names for its weights, and with our
hyperparameters under ``settings``, needs no entry. Any other needs one `Form` in `FORMS`; files
that prove nothing of ours need one with a `reason`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from bench.studies.golden.files import Header


@dataclass(frozen=True, kw_only=True)
class Form:
    """One form that the files of a folder have, and what it is called here.

    Attributes:
        mechanism: our registered name, or None if nothing of ours has this form.
        reason: why files of this form prove nothing; None if they do.
        when: which files have it; the first form of a folder that fits is taken.
        defaults: the official code's hyperparameters where a file states none, by our names.
        hyper: official hyperparameter -> ours. Others are left aside: they describe the formula,
            and numbers that do not agree with ours would tell.
        derived: our hyperparameter -> how it follows from a header; None if it does not.
        weights: official weight, or the first words of its dotted name -> ours. Several of ours
            share the rows of one official weight in the order given. Others keep their name.
        not_weights: tables that ours computes itself.
        inputs: official input -> our argument. Others keep their name.
        unused: our parameters that the case's inputs stand in for.
        tokens_first: inputs and outputs of heads are (B, N, H, ...) instead of (B, H, N, ...).
        features: stored result -> our method that gives it, and the input that it takes.
        method: our method that gives `out` of (B, H, N, D) inputs; None for a whole call.
        grid: how the tokens' grid follows from a header that does not state it; empty if it does
            not.
        layer: our layer in which the mechanism, a published core, takes the place of the core; None
            if the files are about the mechanism itself.
        unfused: our settings for a kernel that writes the weights out. The authors' float32 bounds
            are those of written-out weights; where a fused kernel is beyond one, this one decides.
    """

    mechanism: str | None
    reason: str | None = None
    when: Callable[[Header], bool] = lambda header: True
    defaults: Mapping[str, Any] = field(default_factory=dict)
    hyper: Mapping[str, str] = field(default_factory=dict)
    derived: Mapping[str, Callable[[Header], Any]] = field(default_factory=dict)
    weights: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    not_weights: frozenset[str] = frozenset()
    inputs: Mapping[str, str] = field(default_factory=dict)
    unused: frozenset[str] = frozenset()
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
    """Take an official hyperparameter that is a number, or else a formula in words: then None."""

    def look_up(header: Header) -> float | None:
        stated = header.hyper.get(key)
        is_number = isinstance(stated, int | float) and not isinstance(stated, bool)
        return stated if is_number else None

    return look_up


def _size(weight: str, axis: int) -> Callable[[Header], int | None]:
    """Tell the length of a stored weight along an axis; None if it is not stored."""

    def look_up(header: Header) -> int | None:
        shape = header.shapes.get(f"w.{weight}")
        return None if shape is None else shape[axis]

    return look_up


def _same(*names: str) -> dict[str, str]:
    """Official hyperparameters that have our names."""
    return {name: name for name in names}


_ROPE_TABLES = frozenset({"rope_sin", "rope_cos"})
_NALA_HYPER = _same("lam", "tau", "key_power", "eps")
_NALA_DEFAULTS = {"lam": 3, "tau": 0.5, "key_power": 3, "eps": 1e-6}
_FLATTEN_HYPER = {"focusing_factor": "focusing_factor", "eps_z": "eps"}
_FLATTEN_DEFAULTS = {"focusing_factor": 3, "eps": 1e-6, "norm_over": "all_heads"}


def _lambda_init(header: Header) -> float | None:
    """Differential attention's, of the layer at this depth."""
    depth = header.hyper.get("depth")
    return None if depth is None else 0.8 - 0.6 * math.exp(-0.3 * depth)


def _has_rope(header: Header) -> bool:
    return "w.rope_sin" in header.shapes


FORMS: dict[str, tuple[Form, ...]] = {
    # A fused kernel keeps the logarithm of a row's sum of weights, and its backward pass takes the
    # weights from it: where scores are in the hundreds, the float32 rounding of that logarithm is
    # some 1e-5 of each weight, which written-out weights do not lose.
    "softmax": (Form(mechanism="softmax", unfused={"backend": "math"}),),
    "linear_elu": (Form(mechanism="linear", hyper={"eps": "eps"}, defaults={"eps": 1e-6}),),
    "performer": (
        Form(
            mechanism="performer",
            when=lambda header: _is_causal(header) and header.hyper.get("kernel") == "relu",
            reason=(
                "the reference adds 1e-6 to the keys' sums in its causal form alone; ours is the "
                "bidirectional form on the tokens so far, which has none"
            ),
        ),
        Form(
            mechanism="performer",
            when=_is_causal,
            reason=(
                "the reference leaks the future: its key stabiliser is the largest value over all "
                "positions, which a strictly causal form cannot reproduce"
            ),
        ),
        # Without a projection it has no random features: it is Efficient Attention.
        Form(mechanism="efficient", when=lambda header: "w.projection" not in header.shapes),
        Form(
            mechanism="performer",
            hyper={
                "nb_features": "num_features",
                "kernel": "kernel",
                "eps": "eps",
                "kernel_epsilon": "relu_eps",
                "ortho_scaling": "ortho_scaling",
            },
            defaults={"kernel": "softmax", "eps": 1e-4, "relu_eps": 1e-3, "ortho_scaling": 0},
            derived={"num_features": _size("projection", 0)},
            features={"phi_q": ("query_features", "q"), "phi_k": ("key_features", "k")},
        ),
    ),
    "flatten": (
        Form(
            mechanism="flatten_layer",
            when=_is_module,
            hyper=_FLATTEN_HYPER
            | {"kernel_size": "kernel_size", "sr_ratio": "sr_ratio", "qkv_bias": "qkv_bias"},
            defaults=_FLATTEN_DEFAULTS | {"sr_ratio": 1},
            derived={
                "kernel_size": _size("dwc.weight", -1),
                "sr_ratio": _size("sr.weight", -1),
                "qkv_bias": lambda header: bool({"w.q.bias", "w.qkv.bias"} & header.shapes.keys()),
            },
            weights={"qkv": ("q", "kv")},
        ),
        Form(
            mechanism="flatten",
            hyper=_FLATTEN_HYPER,
            defaults=_FLATTEN_DEFAULTS,
            weights={"scale_raw": ("scale",)},
        ),
    ),
    "nala": (
        Form(
            mechanism="nala_vanilla",
            when=lambda header: "softmax" in header.tags or header.entry.startswith("Vanilla"),
            derived={"rope": _has_rope},
            weights={"ln": ("norm",), "out_proj": ("proj",)},
            not_weights=_ROPE_TABLES,
        ),
        Form(
            mechanism="nala_layer",
            when=_is_module,
            hyper=_NALA_HYPER,
            defaults=_NALA_DEFAULTS,
            derived={"rope": _has_rope},
            weights={"ln": ("norm",), "out_proj": ("proj",)},
            not_weights=_ROPE_TABLES,
        ),
        Form(
            mechanism="nala",
            hyper=_NALA_HYPER,
            defaults=_NALA_DEFAULTS,
            derived={"rope": _has_rope},
            not_weights=_ROPE_TABLES,
        ),
    ),
    "nala_cosine": (
        Form(
            mechanism="nala_cosine",
            hyper=_NALA_HYPER | {"alpha": "alpha"},
            defaults=_NALA_DEFAULTS | {"alpha": 20},
        ),
    ),
    "efficient": (
        Form(
            mechanism="efficient_layer",
            when=_is_module,
            hyper=_same("key_channels", "value_channels"),
            weights={
                "queries": ("q",),
                "keys": ("k",),
                "values": ("v",),
                "reprojection": ("proj",),
            },
        ),
        Form(mechanism="efficient"),
    ),
    "cosformer": (Form(mechanism="cosformer", derived={"eps": _number("eps")}),),
    "hedgehog": (
        Form(
            mechanism="hedgehog",
            when=_is_module,
            defaults={"normaliser": "joint", "tie_heads": True, "tie_qk": True},
            weights={"layer": ("map_q",)},
            method="query_features",
        ),
    ),
    "polaformer": (
        Form(
            mechanism="polaformer_layer",
            when=_is_module,
            hyper=_same("alpha", "eps", "kernel_size", "sr_ratio", "qkv_bias"),
            defaults={"alpha": 4, "eps": 1e-6, "sr_ratio": 1},
            derived={
                "kernel_size": _size("dwc.weight", -1),
                "sr_ratio": _size("sr.weight", -1),
                "qkv_bias": lambda header: "w.qg.bias" in header.shapes,
            },
            weights={
                "power": ("core.power",),
                "scale": ("core.scale",),
                "sr": ("reduced.sr",),
                "norm": ("reduced.norm",),
            },
        ),
        Form(
            mechanism="polaformer",
            hyper={"alpha": "alpha", "eps": "eps"},
            defaults={"alpha": 4, "eps": 1e-6},
            weights={"power_raw": ("power",), "scale_raw": ("scale",)},
        ),
    ),
    "polaformer_pp": (
        Form(
            mechanism="polaformer_pp",
            hyper={"eps": "eps"},
            defaults={"eps": 1e-6},
            not_weights=_ROPE_TABLES,
        ),
    ),
    "mlla": (
        Form(
            mechanism="mlla",
            hyper={"eps": "eps"},
            defaults={"eps": 1e-6},
            derived={"qk_bias": lambda header: "w.qk.bias" in header.shapes},
            not_weights=frozenset({"rope.rotations"}),
            grid=lambda header: header.shapes.get("w.rope.rotations", ())[:2],
        ),
    ),
    "inline": (
        Form(
            mechanism="inline_layer",
            when=_is_module,
            # The authors' DeiT, the only form with a file: its first token is not on the grid.
            defaults={"class_token": True},
            derived={"qkv_bias": lambda header: "w.qkv.bias" in header.shapes},
        ),
        Form(mechanism="inline"),
    ),
    "agent": (
        Form(
            mechanism="agent_layer",
            hyper={"agent_num": "num_agents"},
            derived={
                "class_token": lambda header: "w.ac_bias" in header.shapes,
                "qkv_bias": lambda header: "w.qkv.bias" in header.shapes,
            },
            weights={
                f"{name}_bias": (f"core.{name}_bias",)
                for name in ("an", "na", "ah", "aw", "ha", "wa", "ac", "ca")
            },
        ),
    ),
    "linformer": (
        Form(
            mechanism="linformer_layer",
            hyper={"k": "projected_len", "share_kv": "share_kv"},
            derived={
                "projected_len": _size("proj_k", -1),
                "share_kv": lambda header: "w.proj_v" not in header.shapes,
                "values_are_keys": lambda header: "w.to_v.weight" not in header.shapes,
            },
            weights={name: (f"core.{name}",) for name in ("proj_k", "proj_v")},
        ),
    ),
    "nystrom": (
        Form(
            mechanism="nystromformer",
            hyper={
                "num_landmarks": "num_landmarks",
                "pinv_iters": "pinv_iters",
                "conv_kernel_size": "conv_kernel_size",
            },
            defaults={"pinv_iters": 6, "pinv_init": "batch"},
            derived={"conv_kernel_size": _size("conv.weight", -2)},
        ),
    ),
    "based_taylor": (Form(mechanism="taylor", hyper={"eps": "eps"}, defaults={"eps": 1e-6}),),
    "simple_gla": (
        Form(
            mechanism="simple_gla",
            derived={"scale": _number("scale")},
            inputs={"g": "log_decay"},
            unused=frozenset({"decay_logit"}),
        ),
    ),
    "gla": (
        Form(
            mechanism="gla",
            derived={"scale": _number("scale")},
            inputs={"g": "log_decay"},
            unused=frozenset({"decay_logit"}),
        ),
    ),
    "retnet": (Form(mechanism="retnet", derived={"scale": _number("scale")}),),
    # Their recurrences take keys as they come: the caller has brought them to unit length.
    "deltanet": (
        Form(
            mechanism="deltanet",
            defaults={"normalise_keys": False},
            derived={"scale": _number("scale")},
            unused=frozenset({"beta_logit"}),
        ),
    ),
    "gated_deltanet": (
        Form(
            mechanism="gated_deltanet",
            defaults={"normalise_keys": False},
            derived={"scale": _number("scale")},
            inputs={"g": "log_decay"},
            unused=frozenset({"beta_logit", "log_rate"}),
        ),
    ),
    "kda": (
        Form(
            mechanism="kda",
            defaults={"normalise_keys": False},
            derived={"scale": _number("scale")},
            unused=frozenset({"beta_logit", "log_rate"}),
        ),
    ),
    "differential": (
        Form(
            mechanism="differential",
            hyper=_same("norm", "lambda_init"),
            derived={"lambda_init": _lambda_init},
        ),
    ),
    "differential_v2": (Form(mechanism="differential_v2", unused=frozenset({"gate_logit"})),),
    "fox": (Form(mechanism="fox", hyper=_same("window"), unused=frozenset({"log_rate"})),),
    "softmax_sinks": (
        Form(
            mechanism="softmax_sinks",
            # The authors' 0 is no window.
            derived={"window": lambda header: header.hyper.get("sliding_window") or None},
        ),
    ),
    "rala": (Form(mechanism="rala", hyper=_same("rope", "eps")),),
    "moba": (Form(mechanism="moba", hyper=_same("block_size", "top_k")),),
    "gated_attention": (
        Form(
            mechanism="gated_attention",
            derived={"headwise": lambda header: len(header.shapes["in.gate"]) == 3},
            unused=frozenset({"gate_logit"}),
        ),
    ),
    "nsa": (
        Form(
            mechanism="nsa",
            hyper=_same("block_size", "num_blocks", "window"),
            unused=frozenset({"gate_logit"}),
        ),
    ),
    "dsa": (
        Form(
            mechanism="dsa",
            hyper=_same("top_k"),
            derived={
                "index_heads": lambda header: header.shapes["in.index_q"][1],
                "index_dim": lambda header: header.shapes["in.index_q"][3],
            },
        ),
    ),
    "path": (
        Form(
            mechanism="path",
            derived={"forget_gate": lambda header: "in.log_decay" in header.shapes},
            unused=frozenset({"beta_logit", "log_rate"}),
        ),
    ),
    "deltaformer": (Form(mechanism="deltaformer", unused=frozenset({"strength"})),),
    "gated_deltaproduct": (
        Form(
            mechanism="gated_deltaproduct",
            defaults={"normalise_keys": False},
            derived={
                "forget_gate": lambda header: "in.log_decay" in header.shapes,
                "num_householder": lambda header: (
                    header.shapes["in.more_keys"][3] + 1 if "in.more_keys" in header.shapes else 1
                ),
            },
            unused=frozenset({"beta_logit", "log_rate"}),
        ),
    ),
    "mesanet": (
        Form(
            mechanism="mesanet",
            hyper=_same("solver", "iterations"),
            defaults={"normalise_keys": False, "normalise_queries": False},
            unused=frozenset({"beta_logit", "log_rate"}),
        ),
    ),
    "log_linear": (
        Form(
            mechanism="log_linear",
            derived={"num_levels": lambda header: header.shapes["in.level_scale"][-1]},
            unused=frozenset({"log_rate", "level_logit"}),
        ),
    ),
    "mamba3": (
        Form(
            mechanism="mamba3",
            derived={"num_angles": lambda header: header.shapes.get("in.angle", (0,))[-1]},
            unused=frozenset({"log_rate", "log_step", "trapezoid_logit", "angle_logit"}),
        ),
    ),
    "rwkv6": (
        Form(
            mechanism="rwkv6",
            derived={"scale": _number("scale")},
            unused=frozenset({"log_rate"}),
        ),
    ),
    "rwkv7": (Form(mechanism="rwkv7", unused=frozenset({"decay_logit", "rate_logit"})),),
    "comba": (
        Form(
            mechanism="comba",
            defaults={"normalise_keys": False},
            unused=frozenset({"beta_logit", "log_rate", "removal_logit"}),
        ),
    ),
    "gsa": (
        Form(
            mechanism="gsa",
            derived={"num_slots": lambda header: header.shapes["in.slot"][-1]},
            unused=frozenset({"log_rate"}),
        ),
    ),
    "gated_deltanet2": (
        Form(
            mechanism="gated_deltanet2",
            defaults={"normalise_keys": False},
            unused=frozenset({"erase_logit", "write_logit", "log_rate"}),
        ),
    ),
    "mamba2_ssd": (
        Form(
            mechanism="mamba2_ssd",
            inputs={"X": "v", "A": "log_decay", "Bm": "k", "C": "q"},
            unused=frozenset({"log_rate"}),
            tokens_first=True,
        ),
    ),
}
