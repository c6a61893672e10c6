"""A bad hyperparameter is a ValueError when a mechanism is built; it names value and range."""

import importlib
import math
import re

import pytest

from attentions import (
    Geometry,
    attention_class,
    attention_names,
    build_attention,
    hyperparameters,
)
from tests.attentions.small import NAMES, D, H, N, build, by, geometry
from tests.refusals import refused

# Hyperparameters whose default is a whole number: those that may be 0, and those that need not be
# whole.
MAY_BE_ZERO = {
    *("conv_size", "num_global_blocks", "num_random_blocks", "ortho_scaling", "projection_seed"),
    *("redraw_interval", "seed", "window"),
}
MAY_BE_NOTHING = {("base_conv", "kernel_size"), ("differential", "lambda_init")}
NUMBERS = {"alpha", "focusing_factor"}
# Counts whose default follows from the geometry.
COUNTS = {
    *("conv_kernel_size", "key_channels", "kv_rank", "num_buckets", "num_features", "query_rank"),
    *("rope_dim", "value_channels"),
}


def wrong_values(argument, default):
    """Values that a hyperparameter of such a default never takes, and the end of the message."""
    if isinstance(default, bool):
        return [1, "no", None], "; True or False is needed"
    if isinstance(default, str):
        return ["other", None, 1], "; .*'.*' is needed"
    if isinstance(default, float) or argument == "scale":
        nothing = [] if default is None else [None]
        return [0, -1, math.nan, math.inf, "1", True, *nothing, 10**400], "; (a number|float32)"
    if isinstance(default, int) or argument in COUNTS:
        whole = [] if argument in NUMBERS else [1.5, 2**70]
        zero = [] if argument in MAY_BE_ZERO else [0]
        return [-1, True, "1", *whole, *zero], "[;,]"
    return [True, "1"], ""


def test_a_value_of_the_wrong_kind_is_refused_at_construction():
    for name in NAMES:
        for argument, default in hyperparameters(name).items():
            values, allowed = wrong_values(argument, default)
            if (name, argument) in MAY_BE_NOTHING:
                values.remove(0)
            for value in values:
                with refused(rf"{by(name)}: {argument} is {re.escape(repr(value))}{allowed}"):
                    build(name, **{argument: value})


# (mechanism, hyperparameter, value, what the message says after it)
SETTINGS = [
    ("agent", "num_agents", 2, ""),  # fills no square
    ("block_sparse", "num_window_blocks", 2, "; an odd number"),
    ("block_sparse", "seed", None, ""),
    ("cosformer", "horizon", N - 1, f"; .* {N} or more"),
    ("cosformer", "horizon", 20.0, ""),
    ("dpfp", "nu", 2 * D, ""),  # neighbours that repeat
    ("efficient_layer", "key_channels", 7, ""),
    ("efficient_layer", "value_channels", 7, ""),
    ("flatten", "focusing_factor", 0.5, "; a number of 1 or more"),
    ("flatten_layer", "focusing_factor", 0.5, "; a number of 1 or more"),
    ("flatten_layer", "sr_ratio", 3, "; a divisor of both sides of the 4x4 grid"),
    ("flatten_layer", "kernel_size", 4, "; an odd number"),
    ("gla_layer", "expand_k", 0.3, "; .* head_dim, 8, is whole"),
    ("gla_layer", "expand_k", 1e30, r"; .* is whole, and less than 2\^31"),
    ("hedgehog", "eps", 1e9, "; "),
    ("local_only", "kernel_size", 2, ""),
    ("local_only", "kernel_size", 2**31 - 1, "; "),
    ("local_only", "dims", 3, "; 2 or 1 is needed"),
    ("mamba2_ssd_layer", "num_groups", 3, "; a divisor of num_heads, 2"),
    ("mla", "rope_dim", 3, "; an even number"),
    *(
        (name, "key_power", wrong, said)
        for name in ("nala", "nala_layer", "nala_cosine")
        for wrong, said in ((0.5, "; a number of 1 or more"), (1e6, "; a number of 32 or less"))
    ),
    ("nystromformer", "conv_kernel_size", 32, ""),
    ("performer", "eps", 1e9, "; a number of 1 or less is needed"),
    ("performer", "relu_eps", 1e9, "; "),
    ("performer", "ortho_scaling", 2, "; 0 or 1 is needed"),
    ("polaformer_layer", "kernel_size", 4, ""),
    ("polaformer_layer", "sr_ratio", 3, "; a divisor of both"),
    ("reformer", "num_buckets", 3, "; an even number"),
    ("rfa", "tau", 1e-46, "; "),
    ("rfa", "eps", 1e-300, "; "),
    *(("sigmoid", "bias", wrong, "") for wrong in (math.nan, -math.inf, -1e3)),
    ("simple_gla", "temperature", 5e-324, "; "),
    ("sliding_window", "window", None, ""),
]


def test_a_setting_out_of_range_is_refused_at_construction():
    for name, argument, value, allowed in SETTINGS:
        with refused(rf"{by(name)}: {argument} is {re.escape(repr(value))}{allowed}"):
            build(name, **{argument: value})


@pytest.mark.parametrize(
    ("name", "settings", "said"),
    [
        ("agent", {"class_token": True}, f"agent: seq_len is {N}; with class_token=True"),
        ("inline_layer", {"class_token": True}, f"seq_len is {N}; with class_token=True"),
        ("nala", {"lam": 1.0}, r"lam \* tau .* is 0.5; a number of 1 or more"),
        ("nala", {"lam": 100}, r"greatest power\) is 150.0; a number of 32 or less is needed"),
        (
            "performer",
            {"kernel": "relu_unprojected", "num_features": 7},
            f"num_features with kernel='relu_unprojected' is 7; {D} is needed",
        ),
    ],
)
def test_settings_that_do_not_go_together_are_refused(name, settings, said):
    with refused(said):
        build(name, **settings)


def test_reformer_looks_across_buckets_only_where_it_may_see_the_future():
    shape = Geometry(num_heads=H, head_dim=D, seq_len=N, causal=True)
    with refused("reformer: across_buckets is True; False is"):
        build_attention("reformer", shape, across_buckets=True)


def test_layers_that_keep_their_channels_need_values_as_wide_as_keys():
    for name in (
        *("efficient_layer", "flatten_layer", "mlla", "nala_layer", "nala_vanilla"),
        "polaformer_pp",
    ):
        with refused(rf"geometry\.value_dim is 3; {D} is needed"):
            build_attention(name, geometry(name, value_dim=3))


@pytest.mark.parametrize("name", ["nala", "nala_layer", "nala_vanilla", "polaformer_pp"])
def test_a_head_size_that_cannot_be_rotated_is_refused_at_construction(name):
    rope = {"rope": True} if name != "polaformer_pp" else {}
    head_dim = 6 if name != "polaformer_pp" else 7
    with pytest.raises(ValueError, match=f"{by(name)}: .*head_dim.* {head_dim}") as caught:
        build_attention(name, geometry(name, head_dim=head_dim), **rope)
    assert re.search("multiple of|even", str(caught.value))


@pytest.mark.parametrize(
    "name", [n for n in attention_names() if attention_class(n).capabilities.requires]
)
def test_a_missing_package_is_named_with_the_extra_that_brings_it(name, monkeypatch):
    can = attention_class(name).capabilities
    real = importlib.import_module

    def nowhere(module, *rest):
        if module.partition(".")[0] in can.requires:
            raise ModuleNotFoundError(f"No module named {module!r}", name=module.partition(".")[0])
        return real(module, *rest)

    monkeypatch.setattr(importlib, "import_module", nowhere)
    shape = Geometry(num_heads=H, head_dim=D, seq_len=N, causal=not can.bidirectional)
    with pytest.raises(ImportError, match=rf"{name} .*{can.requires[0]}.*attnbench\["):
        build_attention(name, shape)
