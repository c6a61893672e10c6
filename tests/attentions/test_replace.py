from __future__ import annotations

import copy
import pickle
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from attentions import attention_class, attention_names, replace_attention
from attentions._swapped import Swapped

IMAGE = 32


def needs_timm() -> Any:
    return pytest.importorskip("timm", reason="needs timm: pip install 'attnbench[models]'")


def vision_transformer(**settings: Any) -> nn.Module:
    """Two blocks on a grid of 4x4 patches, with a class token unless said otherwise."""
    timm = needs_timm()
    torch.manual_seed(0)
    sizes = {"img_size": IMAGE, "patch_size": 8, "embed_dim": 32, "depth": 2, "num_heads": 2}
    model = timm.models.VisionTransformer(**{**sizes, "num_classes": 5, **settings})
    return model.eval()  # type: ignore[no-any-return]


def without_class_token(**settings: Any) -> nn.Module:
    return vision_transformer(class_token=False, global_pool="avg", **settings)


def images(rows: int = IMAGE, columns: int = IMAGE) -> Tensor:
    return torch.randn(2, 3, rows, columns, generator=torch.Generator().manual_seed(1))


def encoder(*, batch_first: bool = True, norm_first: bool = False) -> nn.TransformerEncoder:
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(
        16, 2, 32, dropout=0.0, batch_first=batch_first, norm_first=norm_first
    )
    return nn.TransformerEncoder(layer, 2, enable_nested_tensor=batch_first and not norm_first)


def tokens() -> Tensor:
    return torch.randn(3, 7, 16, generator=torch.Generator().manual_seed(1))


def padding() -> Tensor:
    """Torch's way round: True hides."""
    hidden = torch.zeros(3, 7, dtype=torch.bool)
    hidden[1, 5:] = True
    return hidden


def losses(model: nn.Module, call: Callable[[], Tensor], steps: int = 10) -> list[float]:
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-3)
    seen = []
    for _ in range(steps):
        loss = call().square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        seen.append(loss.item())
    return seen


# --- vision transformers of timm


@pytest.mark.parametrize("settings", [{}, {"reg_tokens": 2}, {"qk_norm": True, "qkv_bias": False}])
def test_softmax_in_place_of_softmax_changes_nothing(settings: dict[str, Any]) -> None:
    model = vision_transformer(**settings)
    expected = model(images())
    torch.testing.assert_close(
        replace_attention(model, "softmax")(images()), expected, atol=1e-5, rtol=1e-5
    )


def test_the_model_is_changed_in_place_and_returned() -> None:
    model = vision_transformer()
    assert replace_attention(model, "linear") is model


def test_weights_of_the_model_keep_their_names_and_values() -> None:
    model = vision_transformer()
    before = copy.deepcopy(model.state_dict())
    after = replace_attention(model, "flatten").state_dict()
    assert {name for name in after if name not in before} == {
        "blocks.0.attn.core.scale",
        "blocks.1.attn.core.scale",
    }
    for name, tensor in before.items():
        assert torch.equal(after[name], tensor)


@pytest.mark.parametrize("mechanism", ["softmax", "linear", "flatten", "nala", "agent"])
def test_a_changed_model_learns(mechanism: str) -> None:
    model = replace_attention(vision_transformer(), mechanism, **settings_for(mechanism)).train()
    seen = losses(model, lambda: model(images()))
    assert seen[-1] < seen[0]
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name


def settings_for(mechanism: str) -> dict[str, Any]:
    return {"num_agents": 4} if mechanism == "agent" else {}


def usable(name: str) -> bool:
    can = attention_class(name).capabilities
    return "core" in can.scopes and can.bidirectional and not can.gates and not can.requires


@pytest.mark.parametrize("mechanism", [name for name in attention_names() if usable(name)])
def test_every_bidirectional_core_works_or_says_why_not(mechanism: str) -> None:
    model = vision_transformer()
    try:
        with torch.no_grad():
            out = replace_attention(model, mechanism, **settings_for(mechanism))(images())
    except ValueError as error:
        assert mechanism == "local_only"
        assert "all tokens must lie on a grid" in str(error)
    else:
        assert out.isfinite().all()


def test_a_mechanism_that_needs_a_grid_gets_the_patches() -> None:
    model = replace_attention(without_class_token(img_size=(32, 64)), "local_only")
    swapped = model.get_submodule("blocks.0.attn")
    assert isinstance(swapped, Swapped)
    assert swapped.core.geometry.grid == (4, 8)
    assert model(images(32, 64)).shape == (2, 5)


def test_one_token_before_the_grid_is_a_class_token_to_those_who_know_it() -> None:
    model = replace_attention(vision_transformer(), "agent", num_agents=4)
    assert "class_token=True" in str(model)


def test_a_rotation_on_the_grid_is_refused_beside_a_class_token() -> None:
    model = vision_transformer()
    with pytest.raises(ValueError, match=r"nala: all tokens must lie on a grid.*class_token=False"):
        replace_attention(model, "nala", rope=True)
    assert replaced(model) == set()


def test_a_grid_that_not_all_tokens_fill_is_refused_before_anything_is_changed() -> None:
    model = vision_transformer()
    with pytest.raises(ValueError, match=r"grid is 4x4, and blocks\.0\.attn gets 17 tokens"):
        replace_attention(model, "local_only", grid=(4, 4))
    assert replaced(model) == set()
    assert replace_attention(model, "local_only", grid=(1, 17))(images()).shape == (2, 5)


def test_a_refused_model_has_no_hook_left_and_a_changed_one_has_a_single_one() -> None:
    model = vision_transformer(dynamic_img_size=True)
    patches = model.get_submodule("patch_embed")
    with pytest.raises(ValueError, match="all tokens must lie on a grid"):
        replace_attention(model, "local_only")
    assert not patches._forward_hooks
    for mechanism in ("linear", "flatten"):
        replace_attention(model, mechanism)
    assert len(patches._forward_hooks) == 1


def test_images_of_other_sizes_work_where_the_mechanism_has_no_grid() -> None:
    model = replace_attention(vision_transformer(dynamic_img_size=True), "linear")
    assert model(images(32, 64)).shape == (2, 5)


def test_the_grid_follows_the_images() -> None:
    """Sixteen patches as 2x8 are not those of 4x4."""
    swapped = replace_attention(without_class_token(dynamic_img_size=True), "nala", rope=True)
    out = swapped(images(16, 64))
    fixed = replace_attention(without_class_token(img_size=(16, 64)), "nala", rope=True)
    state = {k: v for k, v in swapped.state_dict().items() if k != "pos_embed"}
    fixed.load_state_dict(state, strict=False)
    with torch.no_grad():
        model: Any = fixed
        model.pos_embed.zero_()
        varying: Any = swapped
        varying.pos_embed.zero_()
    torch.testing.assert_close(swapped(images(16, 64)), fixed(images(16, 64)))
    assert out.isfinite().all()


def test_another_grid_of_the_same_area_is_refused_to_a_mechanism_built_for_one() -> None:
    model = replace_attention(without_class_token(dynamic_img_size=True), "local_only")
    with pytest.raises(ValueError, match="built for a grid of 4x4, and this image gives 2x8"):
        model(images(16, 64))


def test_the_printed_model_names_mechanism_and_hyperparameters() -> None:
    printed = str(replace_attention(vision_transformer(), "flatten", focusing_factor=2))
    assert "flatten, focusing_factor=2, norm_over='all_heads'" in printed


def test_a_changed_model_can_be_copied_and_pickled() -> None:
    model = replace_attention(without_class_token(dynamic_img_size=True), "nala", rope=True)
    expected = model(images(16, 64))
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert torch.equal(twin(images(16, 64)), expected)


def test_a_changed_model_can_be_changed_again() -> None:
    model = vision_transformer()
    expected = model(images())
    replace_attention(replace_attention(model, "linear"), "softmax")
    torch.testing.assert_close(model(images()), expected, atol=1e-5, rtol=1e-5)


def test_a_subclass_with_a_forward_of_its_own_is_left_alone() -> None:
    timm = needs_timm()

    class OddAttention(timm.layers.Attention):  # type: ignore[misc,name-defined]
        def forward(self, x: Tensor) -> Tensor:
            return x

    with pytest.raises(ValueError, match=r"Nothing to replace.*0: OddAttention"):
        replace_attention(nn.Sequential(OddAttention(8, 2)), "linear")


def test_hooks_of_the_old_attention_are_called_and_can_be_removed() -> None:
    model, seen = vision_transformer(), []
    attention = model.get_submodule("blocks.0.attn")
    handles = (
        attention.register_forward_hook(lambda *call: seen.append("after")),
        attention.register_forward_pre_hook(lambda *call: seen.append("before")),
    )
    replace_attention(model, "linear")(images())
    assert seen == ["before", "after"]
    for handle in handles:
        handle.remove()
    model(images())
    assert len(seen) == 2


def test_the_default_device_does_not_matter() -> None:
    model = vision_transformer()
    with torch.device("meta"):
        replace_attention(model, "flatten")
    assert model(images()).isfinite().all()


def test_a_half_model_stays_half() -> None:
    model = replace_attention(vision_transformer().to(torch.bfloat16), "flatten")
    assert {p.dtype for p in model.parameters()} == {torch.bfloat16}
    assert model(images().to(torch.bfloat16)).dtype == torch.bfloat16


def test_a_changed_model_compiles_in_one_graph() -> None:
    model = replace_attention(vision_transformer(), "linear")
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(images()), model(images()))


# --- where


def replaced(model: nn.Module) -> set[str]:
    return {name for name, module in model.named_modules() if isinstance(module, Swapped)}


@pytest.mark.parametrize(
    "where",
    ["layers.1.*", ["layers.1.self_attn"], lambda name: "1" in name],
    ids=["glob", "globs", "predicate"],
)
def test_where_picks_places(where: Any) -> None:
    assert replaced(replace_attention(encoder(), "linear", where=where)) == {"layers.1.self_attn"}


def test_every_glob_must_match() -> None:
    model = encoder()
    with pytest.raises(ValueError, match=r"where=\['layer.0.*'\].*layers.0.self_attn: Multihead"):
        replace_attention(model, "linear", where=["layers.1.*", "layer.0.*"])
    assert replaced(model) == set()


def test_a_model_without_attention_is_named_as_such() -> None:
    with pytest.raises(ValueError, match="attention in the name of their class: none"):
        replace_attention(nn.Linear(2, 2), "linear")


@pytest.mark.parametrize("name", ["swin_tiny_patch4_window7_224", "pvt_v2_b0"])
def test_pyramids_are_refused_with_where_to_get_them(name: str) -> None:
    with torch.device("meta"):
        model = needs_timm().create_model(name)
    with pytest.raises(ValueError, match=r"Nothing to replace.*attentions\.build_model builds"):
        replace_attention(model, "linear")


def test_nothing_is_changed_unless_everything_can_be() -> None:
    model = nn.ModuleList([nn.MultiheadAttention(16, 2), nn.MultiheadAttention(18, 3)])
    with pytest.raises(ValueError, match="1 cannot become nala"):
        replace_attention(model, "nala", rope=True, grid=(2, 3))  # 18 / 3 is no multiple of 4
    assert replaced(model) == set()


def test_a_shared_attention_stays_shared() -> None:
    attention = nn.MultiheadAttention(16, 2)
    model = replace_attention(nn.ModuleList([attention, attention]), "linear")
    assert model[0] is model[1]  # type: ignore[index]


# --- torch's attention


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("masks", ["none", "padding", "causal", "both"])
def test_softmax_in_an_encoder_changes_nothing(
    training: bool, batch_first: bool, masks: str
) -> None:
    model = encoder(batch_first=batch_first).train(training)
    hidden = padding() if masks in ("padding", "both") else None
    later = nn.Transformer.generate_square_subsequent_mask(7).isinf()
    mask = later if masks in ("causal", "both") else None
    x = tokens() if batch_first else tokens().transpose(0, 1)
    expected = model(x, mask=mask, src_key_padding_mask=hidden)
    out = replace_attention(model, "softmax")(x, mask=mask, src_key_padding_mask=hidden)
    if not batch_first:
        expected, out = expected.transpose(0, 1), out.transpose(0, 1)
    seen = ~padding() if hidden is not None else torch.ones(3, 7, dtype=torch.bool)
    torch.testing.assert_close(out[seen], expected[seen], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("hidden", [None, padding()], ids=["all", "padding"])
def test_no_fast_path_goes_past_the_mechanism(hidden: Tensor | None) -> None:
    model = encoder().eval()
    before = model(tokens(), src_key_padding_mask=hidden)
    replace_attention(model, "linear")
    calls: list[str] = []
    for name in ("layers.0.self_attn", "layers.1.self_attn"):
        swapped = model.get_submodule(name)
        assert isinstance(swapped, Swapped)
        mix = swapped.mix
        swapped.mix = lambda *a, n=name, m=mix: (calls.append(n), m(*a))[1]  # type: ignore
    with torch.no_grad():
        after = model(tokens(), src_key_padding_mask=hidden)
    assert calls == ["layers.0.self_attn", "layers.1.self_attn"]
    assert not torch.allclose(before[0], after[0], atol=1e-3)


def test_padding_is_as_good_as_removed() -> None:
    model = replace_attention(encoder(norm_first=True).eval(), "linear")
    out = model(tokens(), src_key_padding_mask=padding())
    torch.testing.assert_close(out[1:2, :5], model(tokens()[1:2, :5]))


def test_a_decoder_takes_a_causal_and_a_crossing_mechanism() -> None:
    torch.manual_seed(0)
    model: Any = nn.Transformer(16, 2, 1, 1, 32, dropout=0.0, batch_first=True).eval()
    replace_attention(model, "lightning", where="decoder.*.self_attn", causal=True)
    replace_attention(model, "linear", where="decoder.*.multihead_attn")
    mask = nn.Transformer.generate_square_subsequent_mask(5)
    target = tokens()[:, :5]
    out = model(tokens(), target, tgt_mask=mask)
    changed = target.clone()
    changed[:, -1] += 1
    torch.testing.assert_close(model(tokens(), changed, tgt_mask=mask)[:, :-1], out[:, :-1])


def test_keys_and_values_of_other_widths_are_projected() -> None:
    torch.manual_seed(0)
    attention = nn.MultiheadAttention(16, 2, kdim=6, vdim=10)
    q, k, v = torch.randn(4, 3, 16), torch.randn(5, 3, 6), torch.randn(5, 3, 10)
    expected = attention(q, k, v)[0]
    out, weights = replace_attention(attention, "softmax")(q, k, v)
    torch.testing.assert_close(out, expected, atol=1e-5, rtol=1e-5)
    assert weights is None


def test_one_sample_without_a_batch_is_taken() -> None:
    attention = nn.MultiheadAttention(16, 2)
    x = tokens()[0]
    expected = attention(x, x, x, key_padding_mask=padding()[1])[0]
    out = replace_attention(attention, "softmax")(x, x, x, key_padding_mask=padding()[1])[0]
    torch.testing.assert_close(out, expected, atol=1e-5, rtol=1e-5)


def test_a_mask_for_each_head_is_taken_by_softmax() -> None:
    attention = nn.MultiheadAttention(16, 2, batch_first=True)
    hidden = torch.rand(6, 7, 7, generator=torch.Generator().manual_seed(0)) > 0.7
    hidden[..., 0] = False
    x = tokens()
    expected = attention(x, x, x, attn_mask=hidden)[0]
    out = replace_attention(attention, "softmax")(x, x, x, attn_mask=hidden)[0]
    torch.testing.assert_close(out, expected, atol=1e-5, rtol=1e-5)


def test_an_encoder_learns() -> None:
    model = replace_attention(encoder(), "flatten")
    seen = losses(model, lambda: model(tokens()) - 1)
    assert seen[-1] < seen[0]


def test_a_nested_tensor_is_refused() -> None:
    attention = replace_attention(nn.MultiheadAttention(16, 2, batch_first=True), "linear")
    nested = torch.nested.nested_tensor([torch.randn(3, 16), torch.randn(4, 16)])
    with pytest.raises(ValueError, match="use_nested_tensor = False"):
        attention(nested, nested, nested)


def test_a_mechanism_with_positions_needs_the_length() -> None:
    attention = nn.MultiheadAttention(16, 2, batch_first=True)
    with pytest.raises(ValueError, match="give it as seq_len="):
        replace_attention(attention, "linformer", projected_len=3)
    out, _ = replace_attention(attention, "linformer", seq_len=7, projected_len=3)(*[tokens()] * 3)
    assert out.shape == (3, 7, 16)


# --- refusals


@pytest.mark.parametrize(
    ("mechanism", "message"),
    [
        ("nala_layer", "nala_layer owns its projections.*its core is 'nala'"),
        ("gla", "gla needs log_decay for every token"),
        ("lightning", "lightning is causal only"),
        ("nalla", "did you mean nala"),
    ],
)
def test_a_mechanism_that_cannot_stand_there_is_refused(mechanism: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace_attention(encoder(), mechanism)


def test_a_hyperparameter_that_is_not_taken_is_refused() -> None:
    with pytest.raises(TypeError, match="takes no hyperparameter 'focusing_facto'"):
        replace_attention(encoder(), "flatten", focusing_facto=2)


def test_dropout_of_weights_is_refused_unless_it_is_to_be_ignored() -> None:
    layer = nn.TransformerEncoderLayer(16, 2, 32, dropout=0.1)
    with pytest.raises(ValueError, match=r"drops 0\.1 of its weights"):
        replace_attention(layer, "linear")
    assert replaced(replace_attention(layer, "linear", ignore_dropout=True)) == {"self_attn"}


def test_projections_that_are_computed_are_refused() -> None:
    attention = nn.MultiheadAttention(16, 2)
    nn.utils.parametrizations.weight_norm(attention, "in_proj_weight")
    with pytest.raises(ValueError, match="in_proj_weight is computed from other parameters"):
        replace_attention(attention, "linear")


@pytest.mark.parametrize("name", ["key_padding_mask", "attn_mask"])
def test_a_mask_of_whole_numbers_could_mean_either_and_is_refused(name: str) -> None:
    attention = replace_attention(nn.MultiheadAttention(16, 2, batch_first=True), "softmax")
    mask = torch.ones((3, 7) if name == "key_padding_mask" else (7, 7), dtype=torch.long)
    with pytest.raises(ValueError, match=f"{name} is of torch.int64; torch.bool, where True hides"):
        attention(*[tokens()] * 3, **{name: mask})


@pytest.mark.parametrize("setting", ["add_bias_kv", "add_zero_attn"])
def test_keys_of_the_attention_itself_are_refused(setting: str) -> None:
    with pytest.raises(ValueError, match="add_bias_kv or add_zero_attn"):
        replace_attention(nn.MultiheadAttention(16, 2, **{setting: True}), "linear")


def test_replacing_needs_neither_timm_nor_transformers() -> None:
    code = (
        "import sys; sys.modules['timm'] = sys.modules['transformers'] = None\n"
        "import torch, attentions\n"
        "attentions.replace_attention(torch.nn.MultiheadAttention(8, 2), 'linear')"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    ("model", "changes", "said"),
    [
        (None, {}, "model is None; an nn.Module is needed"),
        (nn.Linear, {}, "model is <class .*>; an nn.Module is needed"),
        (encoder(), {"mechanism": None}, "None was given"),
        (encoder(), {"mechanism": 5}, "5 was given"),
        (encoder(), {"where": 5}, "where is 5; a glob over dotted names"),
        (encoder(), {"where": [None]}, r"where is \[None\]; a glob over dotted names"),
        (encoder(), {"grid": 4}, "grid is 4; two whole numbers"),
        (encoder(), {"grid": "2x2"}, "grid is '2x2'; two whole numbers"),
        (encoder(), {"grid": (2, 2, 1)}, r"grid is \(2, 2, 1\); two whole numbers"),
        (encoder(), {"seq_len": 0}, "seq_len is 0; a whole number"),
        (encoder(), {"seq_len": "4"}, "seq_len is '4'; a whole number"),
        (encoder(), {"causal": "no"}, "causal is 'no'; True or False"),
    ],
)
def test_arguments_of_another_kind_are_refused_by_name(
    model: Any, changes: dict[str, Any], said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        replace_attention(model, **{"mechanism": "linear"} | changes)


@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize(
    ("masks", "said"),
    [
        ({"key_padding_mask": (2, 5)}, r"key_padding_mask is of shape \(2, 5\); .*\(2, 6\)"),
        ({"key_padding_mask": (6,)}, r"key_padding_mask is of shape \(6,\); .*\(2, 6\)"),
        ({"key_padding_mask": (1, 6)}, r"key_padding_mask is of shape \(1, 6\)"),
        ({"attn_mask": (6,)}, r"attn_mask is of shape \(6,\); .*\(4, 6\) or \(4, 4, 6\)"),
        ({"attn_mask": (4, 5)}, r"attn_mask is of shape \(4, 5\)"),
        ({"attn_mask": (2, 4, 6)}, r"attn_mask is of shape \(2, 4, 6\)"),
    ],
)
def test_masks_of_other_sizes_than_torch_takes_are_refused(
    batch_first: bool, masks: dict[str, tuple[int, ...]], said: str
) -> None:
    attention = nn.MultiheadAttention(16, 2, batch_first=batch_first)
    new = replace_attention(attention, "softmax")
    q, k = torch.randn(2, 4, 16), torch.randn(2, 6, 16)
    if not batch_first:
        q, k = q.transpose(0, 1), k.transpose(0, 1)
    hides_nothing = {name: torch.zeros(size, dtype=torch.bool) for name, size in masks.items()}
    with pytest.raises(ValueError, match=said):
        new(q, k, k, **hides_nothing)
    with pytest.raises(ValueError, match="is of type list; a tensor of shape"):
        new(q, k, k, **{name: [True] for name in masks})


def test_masks_of_a_call_without_a_batch_have_none_either() -> None:
    new = replace_attention(nn.MultiheadAttention(16, 2), "softmax")
    q, k = torch.randn(4, 16), torch.randn(6, 16)
    keys, pairs = torch.zeros(6, dtype=torch.bool), torch.zeros(2, 4, 6, dtype=torch.bool)
    torch.testing.assert_close(new(q, k, k, keys, attn_mask=pairs)[0], new(q, k, k)[0])
    with pytest.raises(ValueError, match=r"key_padding_mask is of shape \(1, 6\); .*\(6,\)"):
        new(q, k, k, keys[None])
