import pytest
import torch

from attentions import build_model
from attentions.models import pvt_v2
from attentions.models._swap import Swap
from tests.attentions.models.proven import differs_from_authors

timm_pvt = pytest.importorskip("timm.models.pvt_v2")


def tiny(mechanism, *, stages=(1, 2, 3, 4), image_size=64, sr_ratios=(4, 2, 1, 1)):
    model = timm_pvt.PyramidVisionTransformerV2(
        num_classes=5,
        depths=(1, 1, 1, 1),
        embed_dims=(8, 8, 16, 32),
        num_heads=(1, 1, 2, 2),
        sr_ratios=sr_ratios,
        mlp_ratios=(2, 2, 2, 2),
    )
    swap = Swap(model="tiny", mechanism=mechanism, stages=stages)
    return model, swap, image_size


def test_softmax_in_the_place_of_unreduced_attention_changes_nothing():
    model, swap, size = tiny("softmax", sr_ratios=(1, 1, 1, 1))
    model, x = model.double().eval(), torch.randn(1, 3, 64, 64, dtype=torch.float64)
    before, weights = model(x), model.state_dict()
    pvt_v2.put(swap, model, size).double()
    for index, stage in enumerate(model.stages):
        mixer, old = stage.blocks[0].attn.mixer, f"stages.{index}.blocks.0.attn."
        for part in ("weight", "bias"):
            joined = torch.cat([weights[f"{old}q.{part}"], weights[f"{old}kv.{part}"]])
            getattr(mixer.qkv, part).data.copy_(joined)
            getattr(mixer.proj, part).data.copy_(weights[f"{old}proj.{part}"])
    torch.testing.assert_close(model(x), before)


@pytest.mark.parametrize("mechanism", ["linear", "nala_layer", "performer", "agent", "topk"])
def test_a_mechanism_sees_all_tokens_and_trains(mechanism):
    model, swap, size = tiny(mechanism)
    pvt_v2.put(swap, model, size)
    out = model(torch.randn(2, 3, 64, 64))
    out.square().sum().backward()
    assert model.patch_embed.proj.weight.grad.isfinite().all()
    assert [stage.blocks[0].attn.mixer.geometry.grid for stage in model.stages] == [
        (16, 16),
        (8, 8),
        (4, 4),
        (2, 2),
    ]


def test_a_block_with_the_authors_weights_gives_the_authors_output():
    model, swap, size = tiny("flatten_layer", image_size=224)
    layer = pvt_v2.put(swap, model, size).stages[3].blocks[0].attn.mixer
    assert differs_from_authors("flatten/module_pvt_sr1_b2c32h2_7x7", layer) <= 1


def test_images_of_another_size_are_refused():
    model, swap, size = tiny("linear")
    with pytest.raises(ValueError, match=r"8x8 grid; the model was built for 16x16"):
        pvt_v2.put(swap, model, size)(torch.randn(1, 3, 32, 32))


def test_by_name_it_is_timms_model_or_has_the_mechanism_in_it():
    with torch.device("meta"):
        original = build_model("pvt_v2_b0", image_size=64)
        swapped = build_model("pvt_v2_b0", "linear", image_size=64, stages=(1,))
    assert isinstance(original.stages[0].blocks[0].attn, timm_pvt.Attention)
    assert isinstance(swapped.stages[1].blocks[0].attn, timm_pvt.Attention)
    assert swapped.stages[0].blocks[0].attn.mixer.core.name == "linear"
