"""A bad hyperparameter is a ValueError when a mechanism is built; it names value and range."""

import math
import re

from attentions import (
    hyperparameters,
)
from tests.attentions.small import NAMES, D, N, build, by
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
    ("cosformer", "horizon", N - 1, f"; .* {N} or more"),
    ("dpfp", "nu", 2 * D, ""),  # neighbours that repeat
    ("flatten_layer", "sr_ratio", 3, "; a divisor of both sides of the 4x4 grid"),
    ("flatten_layer", "kernel_size", 4, "; an odd number"),
    ("gla_layer", "expand_k", 0.3, "; .* head_dim, 8, is whole"),
    ("local_only", "dims", 3, "; 2 or 1 is needed"),
    ("mamba2_ssd_layer", "num_groups", 3, "; a divisor of num_heads, 2"),
    ("mla", "rope_dim", 3, "; an even number"),
    ("nala", "key_power", 0.5, "; a number of 1 or more"),
    ("nala", "key_power", 1e6, "; a number of 32 or less"),
    ("performer", "eps", 1e9, "; a number of 1 or less is needed"),
    ("reformer", "num_buckets", 3, "; an even number"),
    ("sigmoid", "bias", -math.inf, ""),
]


def test_a_setting_out_of_range_is_refused_at_construction():
    for name, argument, value, allowed in SETTINGS:
        with refused(rf"{by(name)}: {argument} is {re.escape(repr(value))}{allowed}"):
            build(name, **{argument: value})
