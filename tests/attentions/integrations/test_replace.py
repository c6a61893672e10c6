import subprocess
import sys

import pytest
import torch
from torch import nn

from attentions import replace_attention, replaced_attention
from tests.attentions.integrations.replacing import encoder, needs_timm, replaced


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


def test_nothing_is_changed_unless_everything_can_be():
    model = nn.ModuleList([nn.MultiheadAttention(16, 2), nn.MultiheadAttention(18, 3)])
    with pytest.raises(ValueError, match="1 cannot become nala"):
        replace_attention(model, "nala", rope=True, grid=(2, 3))  # 18 / 3 is no multiple of 4
    assert replaced(model) == set()


def test_a_shared_attention_stays_shared():
    attention = nn.MultiheadAttention(16, 2)
    model = replace_attention(nn.ModuleList([attention, attention]), "linear")
    assert model[0] is model[1]


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


@pytest.mark.slow
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
        (None, {}, "model is None; an nn.Module is needed"),
        (encoder(), {"where": 5}, "where is 5; a glob over dotted names"),
        (encoder(), {"grid": 4}, "grid is 4; two whole numbers"),
        (encoder(), {"seq_len": 0}, "seq_len is 0; a whole number"),
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
        ({"attn_mask": (6,)}, r"attn_mask is of shape \(6,\); .*\(4, 6\) or \(4, 4, 6\)"),
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
