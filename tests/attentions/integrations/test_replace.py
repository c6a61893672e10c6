import subprocess
import sys

import pytest
import torch
from torch import nn

from attentions import replace_attention, replaced_attention
from tests.attentions.integrations.replacing import encoder, needs_timm, replaced, tokens


@pytest.mark.parametrize(
    "where",
    ["layers.1.*", ["layers.1.self_attn"], lambda name: "1" in name],
    ids=["glob", "globs", "predicate"],
)
def test_where_picks_places(where):
    assert replaced(replace_attention(encoder(), "linear", where=where)) == {"layers.1.self_attn"}


@pytest.mark.parametrize("name", ["swin_tiny_patch4_window7_224", "pvt_v2_b0"])
def test_pyramids_are_refused_with_where_to_get_them(name):
    with torch.device("meta"):
        model = needs_timm().create_model(name)
    with pytest.raises(ValueError, match=r"Nothing to replace.*attentions\.build_model builds"):
        replace_attention(model, "linear")


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("beit_base_patch16_224", "Attention adds a learned table of relative positions"),
        ("swin_tiny_patch4_window7_224", "WindowAttention adds a learned table of relative"),
        ("cait_xxs24_224", "TalkingHeadAttn mixes the scores of its heads"),
    ],
)
def test_attentions_whose_scores_no_mechanism_has_are_refused_with_why(name, why):
    with torch.device("meta"):
        model = needs_timm().create_model(name)
    with pytest.raises(ValueError, match=why):
        replace_attention(model, "linear")


def test_attentions_of_other_kinds_are_counted():
    model = needs_timm().create_model("vit_tiny_patch16_224", depth=2, global_pool="map")
    with pytest.warns(UserWarning, match="2 attentions replaced, 1 left alone: attn_pool: Atten"):
        replace_attention(model, "linear")


def test_a_module_around_a_replaced_attention_is_not_counted_as_left_alone(
    recwarn,
):
    class AttentionBlock(nn.Module):
        def __init__(self):
            super().__init__()
            self.attention = nn.MultiheadAttention(16, 2)

    replace_attention(nn.Sequential(AttentionBlock()), "linear")
    assert not recwarn.list


def test_nothing_is_changed_unless_everything_can_be():
    model = nn.ModuleList([nn.MultiheadAttention(16, 2), nn.MultiheadAttention(18, 3)])
    with pytest.raises(ValueError, match="1 cannot become nala"):
        replace_attention(model, "nala", rope=True, grid=(2, 3))  # 18 / 3 is no multiple of 4
    assert replaced(model) == set()


def test_a_shared_attention_stays_shared():
    attention = nn.MultiheadAttention(16, 2)
    model = replace_attention(nn.ModuleList([attention, attention]), "linear")
    assert model[0] is model[1]


def test_a_hyperparameter_that_is_not_taken_is_refused():
    with pytest.raises(TypeError, match="takes no hyperparameter 'focusing_facto'"):
        replace_attention(encoder(), "flatten", focusing_facto=2)


def test_dropout_of_weights_is_refused_unless_it_is_to_be_ignored():
    layer = nn.TransformerEncoderLayer(16, 2, 32, dropout=0.1)
    with pytest.raises(ValueError, match=r"drops 0\.1 of its weights"):
        replace_attention(layer, "linear")
    assert replaced(replace_attention(layer, "linear", ignore_dropout=True)) == {"self_attn"}


def test_a_module_that_is_itself_the_attention_is_not_replaced_in_silence():
    attention = nn.MultiheadAttention(16, 2, batch_first=True)
    with pytest.raises(ValueError, match=r"itself the attention.*attentions.replaced_attention"):
        replace_attention(attention, "linear")
    assert replaced_attention(attention, "linear").core.name == "linear"
    with pytest.raises(ValueError, match="Nothing to replace: looked for one of"):
        replaced_attention(nn.Linear(2, 2), "linear")


def test_projections_that_are_computed_are_refused():
    attention = nn.MultiheadAttention(16, 2)
    nn.utils.parametrizations.weight_norm(attention, "in_proj_weight")
    with pytest.raises(ValueError, match="in_proj_weight is computed from other parameters"):
        replaced_attention(attention, "linear")


@pytest.mark.parametrize("name", ["key_padding_mask", "attn_mask"])
def test_a_mask_of_whole_numbers_could_mean_either_and_is_refused(name):
    attention = replaced_attention(nn.MultiheadAttention(16, 2, batch_first=True), "softmax")
    mask = torch.ones((3, 7) if name == "key_padding_mask" else (7, 7), dtype=torch.long)
    with pytest.raises(ValueError, match=f"{name} is of torch.int64; torch.bool, where True hides"):
        attention(*[tokens()] * 3, **{name: mask})


def test_replacing_needs_neither_timm_nor_transformers():
    code = (
        "import sys; sys.modules['timm'] = sys.modules['transformers'] = None\n"
        "import torch, attentions\n"
        "attentions.replaced_attention(torch.nn.MultiheadAttention(8, 2), 'linear')"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def attention(**settings):
    return nn.MultiheadAttention(16, 2, **settings)


@pytest.mark.parametrize(
    ("model", "changes", "said"),
    [
        (encoder(), {"where": ["layers.1.*", "layer.0.*"]}, r"where=\['layer.0.*'\].*layers.0.sel"),
        (nn.Linear(2, 2), {}, "attention in the name of their class: none"),
        (encoder(), {"mechanism": "nala_layer"}, "nala_layer owns its projections.*core is 'nala'"),
        (encoder(), {"mechanism": "gla"}, "gla needs log_decay for every token.*'gla_layer'"),
        (encoder(), {"mechanism": "fox"}, r"build_layer\('fox', ...\) makes a layer"),
        (encoder(), {"mechanism": "lightning"}, "lightning is causal only"),
        (encoder(), {"mechanism": "nalla"}, "did you mean nala"),
        (nn.Sequential(attention(add_bias_kv=True)), {}, "add_bias_kv or add_zero_attn"),
        (nn.Sequential(attention(add_zero_attn=True)), {}, "add_bias_kv or add_zero_attn"),
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
def test_what_cannot_be_replaced_is_refused_by_name_and_left_as_it_is(model, changes, said):
    with pytest.raises(ValueError, match=said):
        replace_attention(model, **{"mechanism": "linear"} | changes)
    assert not isinstance(model, nn.Module) or replaced(model) == set()


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
def test_masks_of_other_sizes_than_torch_takes_are_refused(batch_first, masks, said):
    attention = nn.MultiheadAttention(16, 2, batch_first=batch_first)
    new = replaced_attention(attention, "softmax")
    q, k = torch.randn(2, 4, 16), torch.randn(2, 6, 16)
    if not batch_first:
        q, k = q.transpose(0, 1), k.transpose(0, 1)
    hides_nothing = {name: torch.zeros(size, dtype=torch.bool) for name, size in masks.items()}
    with pytest.raises(ValueError, match=said):
        new(q, k, k, **hides_nothing)
    with pytest.raises(ValueError, match="is of type list; a tensor of shape"):
        new(q, k, k, **{name: [True] for name in masks})


def test_masks_of_a_call_without_a_batch_have_none_either():
    new = replaced_attention(nn.MultiheadAttention(16, 2), "softmax")
    q, k = torch.randn(4, 16), torch.randn(6, 16)
    keys, pairs = torch.zeros(6, dtype=torch.bool), torch.zeros(2, 4, 6, dtype=torch.bool)
    torch.testing.assert_close(new(q, k, k, keys, attn_mask=pairs)[0], new(q, k, k)[0])
    with pytest.raises(ValueError, match=r"key_padding_mask is of shape \(1, 6\); .*\(6,\)"):
        new(q, k, k, keys[None])
