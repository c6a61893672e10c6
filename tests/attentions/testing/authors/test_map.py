"""The map from official names to ours, on forms and sizes that no public golden has.

Most goldens here are written by our own mechanism, built directly, see `made`.
"""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from attentions import Geometry, attention_names, build_attention
from attentions.testing.authors import build
from attentions.testing.authors.files import GoldenFolder
from attentions.testing.authors.map import FORMS, Form, form_of, mechanisms_of
from attentions.testing.authors.proof import ProofStatus, prove
from tests.attentions.testing.authors.copies import PUBLIC
from tests.attentions.testing.authors.made import assert_proven, golden_of, qkv, randomise, seeded


def test_every_mechanism_of_the_map_is_registered():
    assert {m for folder in FORMS for m in mechanisms_of(folder)} <= set(attention_names())


def test_a_folder_without_an_entry_goes_by_its_own_name():
    softmax = build_attention("softmax_explicit", Geometry(num_heads=2, head_dim=4, seq_len=5))
    golden = golden_of("softmax_explicit", softmax, qkv(1, 2, 5, 5, 4, 4), {}, {})
    assert_proven(golden, "softmax_explicit")


@pytest.mark.parametrize("switch", [None, 0, 1])
def test_causality_is_a_stored_switch_or_else_a_tag(switch):
    causal = switch != 0
    geometry = Geometry(num_heads=1, head_dim=4, seq_len=6, causal=causal)
    weights = {} if switch is None else {"causal": torch.tensor(switch)}
    softmax = build_attention("softmax", geometry)
    golden = golden_of("softmax", softmax, qkv(2, 1, 6, 6, 4, 4), weights, {}, tags=("causal",))
    assert_proven(golden, "softmax")


@pytest.mark.parametrize("kernel", ["softmax", "relu"])
def test_a_performer_gets_its_features_from_the_stored_projection(kernel):
    geometry = Geometry(num_heads=2, head_dim=6, seq_len=9)
    settings = {"num_features": 7, "kernel": kernel, "eps": 3e-3, "relu_eps": 2e-2}
    performer = build_attention("performer", geometry, **settings).double().eval()
    projection = seeded(7, 6, seed=5)
    performer.projection.copy_(projection)
    hyper = {"kernel": kernel, "eps": 3e-3, "kernel_epsilon": 2e-2, "normalize_data": True}
    inputs = qkv(1, 2, 9, 9, 6, 6)
    golden = golden_of("performer", performer, inputs, {"projection": projection}, hyper)
    assert_proven(golden, "performer")


def test_what_the_causal_references_of_performer_do_is_said_by_kernel():
    projection = seeded(7, 6, seed=5)
    reasons = {}
    for kernel in ("softmax", "relu"):
        geometry = Geometry(num_heads=2, head_dim=6, seq_len=9, causal=True)
        performer = build_attention("performer", geometry, num_features=7, kernel=kernel)
        inputs, weights = qkv(1, 2, 9, 9, 6, 6), {"projection": projection}
        golden = golden_of(
            "performer", performer, inputs, weights, {"kernel": kernel}, tags=("causal",)
        )
        proof = prove(golden, form_of(golden.header))
        assert proof.status is ProofStatus.NOT_COVERED
        reasons[kernel] = proof.reason or ""
    assert "leaks the future" in reasons["softmax"]
    assert "adds 1e-6 to the keys' sums" in reasons["relu"]


@pytest.mark.parametrize(
    ("name", "stated", "scale"),
    [
        ("deltanet", "D**-0.5", None),
        ("kda", 1.0, 1.0),
        ("retnet", "D**-0.5", None),
        ("retnet", 3, 3),
    ],
)
def test_a_scale_in_numbers_is_taken_and_one_in_words_is_the_usual_one(name, stated, scale):
    geometry = Geometry(num_heads=2, head_dim=4, value_dim=3, seq_len=9, causal=True)
    settings = {} if name == "retnet" else {"normalise_keys": False}
    core = build_attention(name, geometry, scale=scale, **settings)
    inputs = qkv(1, 2, 9, 9, 4, 3)
    if name != "retnet":
        inputs["beta"] = seeded(1, 2, 9, seed=6).sigmoid()
    if name == "kda":
        inputs["log_decay"] = -seeded(1, 2, 9, 4, seed=7).square()
    golden = golden_of(name, core, inputs, {}, {"scale": stated}, tags=("causal",))
    assert_proven(golden, name)


@pytest.mark.parametrize("tags", [("feature_map",), ()])
def test_a_hedgehog_golden_with_one_input_is_a_feature_map(tags):
    geometry = Geometry(num_heads=3, head_dim=6, seq_len=5)
    settings = {"normaliser": "joint", "tie_heads": True, "tie_qk": True}
    core = build_attention("hedgehog", geometry, **settings)
    ours = randomise(core)
    weights = {"layer.weight": ours["map_q.weight"], "layer.bias": ours["map_q.bias"]}
    core.double()

    def call(x):
        features: Tensor = core.query_features(x)
        return features

    inputs = {"x": seeded(2, 3, 5, 6)}
    assert_proven(
        golden_of("hedgehog", core, inputs, weights, {}, call=call, tags=tags), "hedgehog"
    )


@pytest.mark.parametrize("by", ["table", "hyperparameter"])
def test_an_mlla_module_takes_its_grid_from_its_table_or_else_from_the_header(by):
    geometry = Geometry(num_heads=2, head_dim=4, seq_len=15, grid=(5, 3))
    layer = build_attention("mlla", geometry, eps=1e-3)
    weights, hyper = randomise(layer), {"num_heads": 2, "eps": 1e-3}
    if by == "table":
        weights |= {"rope.rotations": torch.zeros(5, 3, 4, 2)}
    else:
        hyper |= {"H": 5, "W": 3}
    assert_proven(golden_of("mlla", layer, {"x": seeded(2, 15, 8)}, weights, hyper), "mlla")


def flatten_names(ours, *, fused):
    named = {key.removeprefix("core.").removeprefix("reduced."): x for key, x in ours.items()}
    named["scale"] = named["scale"][None, None]
    named["positional_encoding"] = named["positional_encoding"][None]
    if fused:
        for kind in ("weight", "bias"):
            if f"q.{kind}" in named:
                named[f"qkv.{kind}"] = torch.cat([named.pop(f"{x}.{kind}") for x in ("q", "kv")])
    return named


@pytest.mark.parametrize(
    ("bias", "sr_ratio", "grid"), [(True, 1, (3, 10)), (False, 2, (10, 4)), (True, 4, (4, 12))]
)
def test_a_pvt_module_says_its_grid_its_reduction_and_its_biases(bias, sr_ratio, grid):
    rows, columns = grid
    geometry = Geometry(num_heads=3, head_dim=4, seq_len=rows * columns, grid=grid)
    layer = build_attention(
        "flatten_layer",
        geometry,
        focusing_factor=2,
        kernel_size=3,
        sr_ratio=sr_ratio,
        qkv_bias=bias,
    )
    weights = flatten_names(randomise(layer), fused=False)
    hyper = {"num_heads": 3, "H": rows, "W": columns, "sr_ratio": sr_ratio, "kernel_size": 3}
    hyper |= {"focusing_factor": 2, "qkv_bias": bias}
    inputs = {"x": seeded(2, rows * columns, 12)}
    assert_proven(golden_of("flatten", layer, inputs, weights, hyper), "flatten_layer")


@pytest.mark.parametrize(("bias", "window"), [(True, 5), (True, [5, 5]), (False, [3, 7])])
def test_a_swin_module_has_one_fused_projection_and_a_window(bias, window):
    rows, columns = (window, window) if isinstance(window, int) else window
    geometry = Geometry(num_heads=2, head_dim=4, seq_len=rows * columns, grid=(rows, columns))
    layer = build_attention("flatten_layer", geometry, qkv_bias=bias)
    weights = flatten_names(randomise(layer), fused=True)
    inputs = {"x": seeded(2, rows * columns, 8)}
    golden = golden_of("flatten", layer, inputs, weights, {"num_heads": 2, "window": window})
    assert_proven(golden, "flatten_layer")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_flatten_core_gets_its_scale(dtype):
    geometry = Geometry(num_heads=2, head_dim=4, seq_len=6)
    core = build_attention("flatten", geometry, focusing_factor=4, eps=1e-3).to(dtype)
    scale = seeded(8, seed=7).to(dtype) + 1e-9
    with torch.no_grad():
        core.get_parameter("scale").copy_(scale)
    weights = {"scale_raw": scale[None, None]}
    hyper = {"focusing_factor": 4, "eps_relu": 1e-3, "eps_z": 1e-3}
    assert_proven(golden_of("flatten", core, qkv(2, 2, 6, 6, 4, 4), weights, hyper), "flatten")


@pytest.mark.parametrize("rope", [True, False])
def test_a_nala_module_takes_its_grid_from_its_input_and_rope_from_its_tables(rope):
    geometry = Geometry(num_heads=2, head_dim=8, seq_len=15, grid=(3, 5))
    layer = build_attention("nala_layer", geometry, rope=rope)
    official = {"norm": "ln", "proj": "out_proj"}
    weights = {
        ".".join((official.get(word, word), *rest)): value
        for (word, *rest), value in ((k.split("."), v) for k, v in randomise(layer).items())
    }
    if rope:
        weights |= {"rope_sin": torch.zeros(15, 8), "rope_cos": torch.ones(15, 8)}

    def call(x):
        tokens: Tensor = layer(x.flatten(2).transpose(1, 2))
        return tokens.transpose(1, 2).reshape(x.shape)

    layer.double()
    inputs = {"x": seeded(2, 16, 3, 5)}
    stored = {"in.heads": torch.tensor(2)}
    golden = golden_of("nala", layer, inputs, weights, {}, call=call, stored=stored)
    assert_proven(golden, "nala_layer")


@pytest.mark.parametrize("rope", [True, False])
def test_a_nala_core_takes_its_grid_and_powers_from_the_header(rope):
    settings = {"lam": 2, "tau": 0.7, "key_power": 5, "eps": 1e-3}
    geometry = Geometry(num_heads=2, head_dim=4, seq_len=24, grid=(2, 12))
    core = build_attention("nala", geometry, rope=rope, **settings)
    tables = {"rope_sin": torch.zeros(24, 4), "rope_cos": torch.ones(24, 4)} if rope else {}
    hyper = settings | {"grid": [2, 12]}
    assert_proven(golden_of("nala", core, qkv(1, 2, 24, 24, 4, 4), tables, hyper), "nala")


def test_nala_cosine_takes_its_angle_from_the_header():
    settings = {"alpha": 5, "lam": 2, "tau": 0.7, "key_power": 5, "eps": 1e-3}
    core = build_attention("nala_cosine", Geometry(num_heads=1, head_dim=4, seq_len=6), **settings)
    golden = golden_of("nala_cosine", core, qkv(1, 1, 6, 6, 4, 4), {}, dict(settings))
    assert_proven(golden, "nala_cosine")


@pytest.mark.parametrize("heads", [None, 0, "two"])
def test_a_module_that_does_not_count_its_heads_fails_by_that(heads):
    geometry = Geometry(num_heads=2, head_dim=4, seq_len=9, grid=(3, 3))
    layer = build_attention("flatten_layer", geometry)
    weights = flatten_names(randomise(layer), fused=False)
    hyper = {"H": 3, "W": 3} | ({} if heads is None else {"num_heads": heads})
    golden = golden_of("flatten", layer, {"x": seeded(1, 9, 8)}, weights, hyper)
    proof = prove(golden, form_of(golden.header))
    assert proof.status is ProofStatus.FAILED
    assert f"the golden says {heads!r} for the number of heads" in (proof.reason or "")


@pytest.mark.parametrize(
    ("mechanism", "weights", "said"),
    [
        ("softmax", {"temperature": torch.ones(1)}, "temperature has no place"),
        ("flatten", {}, "no value for flatten's scale"),
        ("flatten", {"scale_raw": torch.zeros(1, 1, 8)}, "(1, 1, 8), ours is scale (4,)"),
    ],
)
def test_weights_that_do_not_meet_ours_fail_by_name(mechanism, weights, said):
    core = build_attention(mechanism, Geometry(num_heads=1, head_dim=4, seq_len=5))
    golden = golden_of(mechanism, core, qkv(1, 1, 5, 5, 4, 4), weights, {})
    proof = prove(golden, form_of(golden.header))
    assert proof.status is ProofStatus.FAILED
    assert said in (proof.reason or "")


def test_a_weight_of_one_number_is_missed_too():
    core = build_attention("polaformer", Geometry(num_heads=1, head_dim=1, seq_len=5))
    golden = golden_of("polaformer", core, qkv(1, 1, 5, 5, 1, 1), {}, {})
    assert "gives no value for polaformer's power, scale" in (
        prove(golden, form_of(golden.header)).reason or ""
    )


def test_a_weight_of_one_number_takes_one_row_of_an_official_one():
    places = {"scale": torch.zeros(()), "bias": torch.zeros(2)}
    build._copy("weight", torch.tensor([1.0, 2.0, 3.0]), places)
    assert [place.tolist() for place in places.values()] == [1.0, [2.0, 3.0]]
    build._copy("scale", torch.tensor([4.0]), {"scale": places["scale"]})
    assert places["scale"].item() == 4.0
    with pytest.raises(build.Mismatch, match=r"weight is \(4,\), ours is scale \(\), bias \(2,\)"):
        build._copy("weight", torch.ones(4), places)  # a row of it has no place


def test_a_weight_goes_by_the_longest_entry_that_it_begins_with():
    form = Form(weights={"a": ("x",), "a.b": ("y", "z")})
    assert build._ours("a.b.weight", form) == ("y.weight", "z.weight")
    assert build._ours("a.c.weight", form) == ("x.c.weight",)


@pytest.mark.parametrize(
    "name",
    [
        "differential/layer3_h3n37",
        "differential/no_norm",
        "dsa/top2",
        "fox/window_9",
        "gated_deltaproduct/four_strong_decay",
        "gated_deltaproduct/one_is_gated_deltanet",
        "gated_deltaproduct/two_without_decay",
        "mesanet/cg5_n32",
        "mesanet/exact_strong_decay",
        "moba/top1_is_local",
        "nsa/large_norms",
        "rala/no_rope_h2",
        "softmax_sinks/gqa_window_8",
        "softmax_sinks/large_norms_large_sinks",
    ],
)
def test_a_golden_that_states_nothing_by_our_names_is_read_by_the_official_ones(name):
    folder = GoldenFolder(PUBLIC)
    golden = folder.read(folder.header(name))
    bare = replace(golden, header=replace(golden.header, settings={}))
    assert_proven(bare, golden.header.mechanism)


def test_a_mamba3_golden_without_angles_needs_no_value_for_them():
    geometry = Geometry(num_heads=2, head_dim=4, value_dim=3, seq_len=6, causal=True)
    core = build_attention("mamba3", geometry, num_angles=0)
    kept = {name: w for name, w in randomise(core).items() if name in ("q_bias", "k_bias", "skip")}
    gates = {name: seeded(1, 2, 6, seed=5).sigmoid() for name in ("step", "trapezoid")}
    gates["log_decay"] = -seeded(1, 2, 6, seed=6).exp()
    golden = golden_of("mamba3", core, qkv(1, 2, 6, 6, 4, 3) | gates, kept, {}, tags=("causal",))
    assert_proven(golden, "mamba3")
