import pytest
import torch

from attentions import build_model
from attentions.models import swin
from attentions.models._swap import Swap
from tests.attentions.models.proven import differs_from_authors

timm_swin = pytest.importorskip("timm.models.swin_transformer")


def tiny(image_size=64, depths=(2, 1, 1, 1), embed_dim=4):
    return timm_swin.SwinTransformer(
        img_size=image_size,
        num_classes=5,
        embed_dim=embed_dim,
        depths=depths,
        num_heads=(1, 1, 2, 2),
        window_size=4,
    )


def swap(mechanism, *, stages=(1, 2, 3, 4), whole_grid=False):
    return Swap(model="tiny", mechanism=mechanism, stages=stages, whole_grid=whole_grid)


def blocks(model):
    return [block for stage in model.layers for block in stage.blocks]


def test_softmax_in_the_windows_changes_nothing_but_for_the_table_of_positions():
    model = tiny().double().eval()
    assert any(any(block.shift_size) for block in blocks(model))
    for block in blocks(model):
        torch.nn.init.zeros_(block.attn.relative_position_bias_table)
    x = torch.randn(2, 3, 64, 64, dtype=torch.float64)
    before, projections = model(x), [block.attn for block in blocks(model)]
    swin.put(swap("softmax"), model).double()
    for block, old in zip(blocks(model), projections, strict=True):
        block.attn.mixer.qkv.load_state_dict(old.qkv.state_dict())
        block.attn.mixer.proj.load_state_dict(old.proj.state_dict())
    torch.testing.assert_close(model(x), before)


def test_a_mechanism_without_dense_masks_sees_across_the_seam_of_shifted_windows():
    model = swin.put(swap("linear"), tiny()).eval()
    shifted = next(block for block in blocks(model) if any(block.shift_size))
    mixer, mask = shifted.attn, shifted.attn_mask
    x = torch.randn(mask.shape[0], 16, 4)
    assert mixer(x, mask).equal(mixer(x))


@pytest.mark.parametrize("whole_grid", [False, True])
@pytest.mark.parametrize("mechanism", ["linear", "nala_layer", "performer", "agent", "flatten"])
def test_a_mechanism_trains_in_windows_and_on_the_whole_grid(mechanism, whole_grid):
    model = swin.put(swap(mechanism, whole_grid=whole_grid), tiny(embed_dim=8))
    out = model(torch.randn(2, 3, 64, 64))
    out.square().sum().backward()
    assert out.shape == (2, 5)
    assert model.patch_embed.proj.weight.grad.isfinite().all()
    grids = [block.attn.mixer.geometry.grid for block in blocks(model)]
    wide = [(16, 16)] * 2 + [(8, 8), (4, 4), (2, 2)]
    assert grids == (wide if whole_grid else [(min(4, g), min(4, g)) for g, _ in wide])


@pytest.mark.parametrize("case", ["flatten/module_swin_b2c32h2_7x7", "nala/module_b2c32h2_7x7"])
def test_a_block_with_the_authors_weights_gives_the_authors_output(case):
    mechanism = f"{case.partition('/')[0]}_layer"
    model = swin.put(swap(mechanism, whole_grid=True), tiny(image_size=224))
    assert differs_from_authors(case, blocks(model)[-1].attn.mixer) <= 1


def test_the_presets_have_their_layers_on_the_whole_grid_of_their_stages():
    with torch.device("meta"):
        model = build_model("flatten_swin_tiny", image_size=224)
    kinds = [getattr(block.attn, "mixer", block.attn) for block in blocks(model)]
    assert [getattr(kind, "name", "softmax") for kind in kinds] == (
        ["flatten_layer"] * 4 + ["softmax"] * 8
    )
    assert [kind.geometry.grid for kind in kinds[:4]] == [(56, 56)] * 2 + [(28, 28)] * 2
    assert [block.window_size for block in blocks(model)[4:]] == [(7, 7)] * 8
