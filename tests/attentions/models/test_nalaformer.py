import pytest
import torch

from attentions import attention_class, attention_names, build_model
from attentions.models._swap import Swap
from attentions.models.nalaformer import Block, NalaFormer, Sizes
from tests.attentions.models.proven import differs_from_authors

TINY = Sizes(
    widths=(8, 8, 16, 32),
    depths=(1, 1, 1, 1),
    heads=(1, 1, 2, 2),
    mlp_ratio=2,
    drop_path=0.0,
)
FOR_IMAGES = [
    name
    for name in attention_names()
    if attention_class(name).capabilities.bidirectional
    and not attention_class(name).capabilities.gates
    and "cpu" in attention_class(name).capabilities.backward_devices
    and not attention_class(name).capabilities.requires
    and not name.endswith("_published")
]

FIRST = ("agent", "flatten_layer", "linformer", "local_only", "nala", "performer", "softmax")
"""A core or a layer of each kind; the slow tests take all others."""


def slow(name):
    return pytest.param(name, marks=pytest.mark.slow)


def tiny(mechanism="nala_layer", *, stages=(1, 2), image_size=64, sizes=TINY, **settings):
    swap = Swap(model="tiny", mechanism=mechanism, stages=stages, hyperparameters=settings)
    return NalaFormer(sizes, swap, image_size, 5)


def mixers(model):
    return [block.mixer for block in model.modules() if isinstance(block, Block)]


def named(mixer):
    return getattr(mixer, "core", mixer).name if not hasattr(mixer, "name") else mixer.name


def test_the_released_model_has_softmax_in_its_last_two_stages():
    with torch.device("meta"):
        names = [named(mixer) for mixer in mixers(build_model("nalaformer_t", image_size=64))]
    assert names == ["nala_layer"] * 4 + ["nala_vanilla"] * 8


def test_a_switch_makes_all_stages_linear():
    with torch.device("meta"):
        by_name = build_model("nalaformer_xt_linear", image_size=64)
        by_stages = build_model("nalaformer_xt", image_size=64, stages=(1, 2, 3, 4))
    for model in (by_name, by_stages):
        assert {named(mixer) for mixer in mixers(model)} == {"nala_layer"}


@pytest.mark.parametrize(
    ("case", "mechanism", "image_size"),
    [
        ("nala/module_b2c32h2_7x7", "nala_layer", 224),
        ("nala/vanilla_block_attn_b1c32h2_5x5", "nala_vanilla", 160),
        ("flatten/module_pvt_sr1_b2c32h2_7x7", "flatten_layer", 224),
        ("polaformer/module_pvt_sr1_b2c32h2_7x7", "polaformer_layer", 224),
    ],
)
def test_a_block_with_the_authors_weights_gives_the_authors_output(case, mechanism, image_size):
    model = tiny(mechanism, stages=(4,), image_size=image_size)
    assert differs_from_authors(case, mixers(model)[-1]) <= 1


@pytest.mark.parametrize("mechanism", [*FIRST, *(slow(n) for n in FOR_IMAGES if n not in FIRST)])
def test_every_mechanism_for_images_trains_in_every_stage(mechanism):
    model = tiny(mechanism, stages=(1, 2, 3, 4))
    x = torch.randn(2, 3, 64, 64)
    out = model(x)
    assert out.shape == (2, 5) and out.isfinite().all()
    out.square().sum().backward()
    gradients = {name: p.grad for name, p in model.named_parameters()}
    assert all(g is None or g.isfinite().all() for g in gradients.values())
    assert gradients["stem.0.weight"].count_nonzero() > 0


def test_nala_with_rotation_is_the_published_layer():
    published, swapped = tiny().double().eval(), tiny("nala", rope=True).double().eval()
    swapped.load_state_dict(published.state_dict(), strict=True)
    x = torch.randn(1, 3, 64, 64, dtype=torch.float64)
    torch.testing.assert_close(swapped(x), published(x))


def test_every_token_of_a_stage_can_reach_every_output():
    model = tiny(stages=(1, 2, 3, 4)).double().eval()
    x = torch.randn(1, 3, 64, 64, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(model(x)[0, 0], x)
    assert gradient.count_nonzero() == gradient.numel()
