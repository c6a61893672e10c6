import pytest
import torch

from attentions import build_model
from attentions.models._swap import Swap
from attentions.models.pvt import Block, Place, PyramidTransformer, ReducedSoftmax, Sizes
from tests.attentions.models.proven import differs_from_authors

TINY = Sizes(
    depths=(1, 1, 1, 1), widths=(8, 8, 16, 32), heads=(1, 1, 2, 2), mlp_ratios=(2, 2, 2, 2)
)


def tiny(mechanism=None, *, stages=(1, 2, 3, 4), image_size=64, **settings):
    swap = None
    if mechanism is not None:
        swap = Swap(model="tiny", mechanism=mechanism, stages=stages, hyperparameters=settings)
    return PyramidTransformer(TINY, swap, image_size, 5)


def mixers(model):
    return [block.mixer for block in model.modules() if isinstance(block, Block)]


def test_softmax_sees_means_of_a_shrunken_grid():
    place = Place(stage=1, channels=8, num_heads=2, grid=(4, 4))
    mixer = ReducedSoftmax(place, 2).double()
    x = torch.randn(1, 16, 8, dtype=torch.float64)
    q = mixer.q(x)
    k, v = mixer.kv(mixer.reduced.reference(x)).chunk(2, dim=-1)
    assert k.shape == (1, 4, 8)
    heads = []
    for part in range(2):
        of_head = slice(4 * part, 4 * part + 4)
        scores = q[..., of_head] @ k[..., of_head].mT / 2
        heads.append(scores.softmax(dim=-1) @ v[..., of_head])
    torch.testing.assert_close(mixer(x), mixer.proj(torch.cat(heads, dim=-1)))


@pytest.mark.parametrize(
    ("case", "mechanism"),
    [
        ("flatten/module_pvt_sr1_b2c32h2_7x7", "flatten_layer"),
        ("polaformer/module_pvt_sr1_b2c32h2_7x7", "polaformer_layer"),
    ],
)
def test_a_block_with_the_authors_weights_gives_the_authors_output(case, mechanism):
    model = tiny(mechanism, image_size=224)
    assert differs_from_authors(case, mixers(model)[-1]) <= 1


@pytest.mark.parametrize(
    "mechanism", ["linear", "nala", "softmax", "performer", "agent", "flatten_layer", "linformer"]
)
def test_a_mechanism_sees_all_tokens_and_trains(mechanism):
    model = tiny(mechanism)
    assert [mixer.geometry.seq_len for mixer in mixers(model)] == [256, 64, 16, 4]
    out = model(torch.randn(2, 3, 64, 64))
    out.square().sum().backward()
    assert out.shape == (2, 5)
    assert model.stages[0].embed.weight.grad.isfinite().all()


def test_other_stages_keep_softmax_on_a_shrunken_grid():
    kinds = [isinstance(mixer, ReducedSoftmax) for mixer in mixers(tiny("linear", stages=(1, 2)))]
    assert kinds == [False, False, True, True]


def test_the_presets_are_the_same_pyramid_with_other_layers():
    with torch.device("meta"):
        softmax, flatten, pola = (
            build_model(f"{prefix}pvt_tiny", image_size=64) for prefix in ("", "flatten_", "pola_")
        )
    assert {type(mixer) for mixer in mixers(softmax)} == {ReducedSoftmax}
    assert {mixer.name for mixer in mixers(flatten)} == {"flatten_layer"}
    assert {mixer.name for mixer in mixers(pola)} == {"polaformer_layer"}
    without_mixers = [
        {k: v.shape for k, v in model.state_dict().items() if ".mixer." not in k}
        for model in (softmax, flatten, pola)
    ]
    assert without_mixers[0] == without_mixers[1] == without_mixers[2]
