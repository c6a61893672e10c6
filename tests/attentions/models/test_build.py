import importlib.util
import sys

import pytest
import torch
from torch import nn

import attentions
from attentions.models import build_model, model_info, model_names

FACTORY = """
from torch import nn
import torch

class Tiny(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.embed = nn.Conv2d(3, 8, 8, stride=8)
        self.head = nn.Linear(8, num_classes)

    def forward(self, x):
        x = self.embed(x).flatten(2).transpose(1, 2)
        return self.head(self.attention(x, x, x, need_weights=False)[0].mean(1))

def build(num_classes=4):
    return Tiny(num_classes)

def number():
    return 3

_hidden = 1
"""


@pytest.fixture
def factory(tmp_path):
    path = tmp_path / "factory.py"
    path.write_text(FACTORY)
    return path


def images(size, count=2):
    return torch.randn(count, 3, size, size)


def test_the_library_offers_models_by_name():
    assert attentions.build_model is build_model
    assert attentions.model_names() == model_names()
    assert attentions.model_info("nalaformer_t") is model_info("nalaformer_t")


LEAST = ("nalaformer_xt", "deit_tiny", "pvt_tiny", "pvt_v2_b0", "swin_tiny", "nala_swin_tiny")
"""A model for each way to build one; the slow tests take all the others."""


@pytest.mark.parametrize(
    "name",
    [n if n in LEAST else pytest.param(n, marks=pytest.mark.slow) for n in model_names()],
)
def test_every_model_takes_the_least_size_that_it_claims(name):
    for package in model_info(name).requires:
        pytest.importorskip(package)
    size = model_info(name).min_image_size
    with torch.device("meta"):
        model = build_model(name, image_size=size, num_classes=7)
        assert model.to("meta").eval()(images(size)).shape == (2, 7)


XT = "nalaformer_xt"


@pytest.mark.parametrize(
    ("name", "settings", "why"),
    [
        *(
            (XT, {"image_size": n}, r"nalaformer_xt: image_size is .*multiple of 32")
            for n in (0, 33, 16, -32, 32.0, True)
        ),
        (XT, {"num_classes": 0}, "num_classes is 0"),
        (XT, {"mechanism": "retnet"}, "retnet is causal only"),
        (XT, {"mechanism": "gated_deltanet"}, "gated_deltanet is causal only"),
        (XT, {"mechanism": "nalla"}, "did you mean nala"),
        (
            XT,
            {"mechanism": "agent", "num_agents": 5},
            r"nalaformer_xt, stage 1 with 1 heads on a 8x8 grid: agent: num_agents is 5",
        ),
        *((XT, {"stages": s}, "allowed are some of 1, 2, 3, 4") for s in ((0,), (5,), ())),
        *(("pvt_tiny", given, "without a mechanism") for given in ({"lam": 2}, {"stages": (1,)})),
    ],
)
def test_what_a_model_does_not_take_is_refused(name, settings, why):
    with pytest.raises(ValueError, match=why):
        build_model(name, **{"image_size": 32} | settings)


def test_a_hyperparameter_that_the_mechanism_does_not_take_is_refused():
    with pytest.raises(TypeError, match="takes no hyperparameter 'lamb'"):
        build_model("nalaformer_xt", "nala", image_size=32, lamb=1)


def test_a_missing_package_is_named_with_its_extra(monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *a: None if name == "timm" else find(name, *a)
    )
    with pytest.raises(ImportError, match=r"swin_tiny needs timm.*pip install 'attnbench\[models"):
        build_model("swin_tiny")


def test_a_model_of_ones_own_is_built_by_its_factory(factory):
    model = build_model(f"{factory}:build", num_classes=5)
    assert model(images(16)).shape == (2, 5)
    assert isinstance(model.attention, nn.MultiheadAttention)


def test_a_mechanism_takes_the_place_of_attention_in_a_model_of_ones_own(factory):
    model = build_model(f"{factory}:build", "linear", eps=1e-3)
    cores = [m for m in model.modules() if isinstance(m, attentions.Attention)]
    assert [core.name for core in cores] == ["linear"]
    assert cores[0].eps == 1e-3
    assert model(images(16)).shape == (2, 1000)


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("nowhere.py:build", "names no factory: there is no file nowhere.py"),
        ("nowhere.txt:build", "names no factory: 'nowhere.txt' is no .py file"),
        ("{path}:", "names no factory: '' after the colon is no name of a function"),
        ("{path}:missing", "defines no function 'missing'; it has: Tiny, build, number"),
        ("{path}:number", "returned a int; an nn.Module is needed"),
    ],
)
def test_a_factory_that_cannot_be_used_is_explained(factory, name, why):
    with pytest.raises(ValueError, match=why):
        build_model(name.format(path=factory))


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("def build(width): ...", "image_size, num_classes: missing a required argument: 'width'"),
        ("def build(image_size, /): ...", "missing a required.*every other argument needs a def"),
        ("import sys\ndef build(image_size): sys.exit('usage')", "ended the program.*usage"),
        ("raise SystemExit(3)", "ended the program.*3"),
    ],
)
def test_a_factory_that_asks_for_more_or_ends_the_program_is_explained(tmp_path, text, why):
    path = tmp_path / "odd.py"
    path.write_text(text)
    with pytest.raises(ValueError, match=why):
        build_model(f"{path}:build")


def test_a_factory_of_any_keywords_gets_both(tmp_path):
    path = tmp_path / "keywords.py"
    path.write_text(
        "from torch import nn\n"
        "def build(**given):\n"
        "    return nn.Linear(given['image_size'], given['num_classes'])\n"
    )
    model = build_model(f"{path}:build", image_size=16, num_classes=3)
    assert (model.in_features, model.out_features) == (16, 3)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("nn.Sequential(nn.Flatten(), nn.LazyLinear(5))", "1.weight has no shape yet.*call the"),
        ("nn.Linear(2, 2, device='meta')", "weight is on meta, without values"),
    ],
)
def test_a_model_that_is_not_whole_yet_is_refused(tmp_path, text, why):
    path = tmp_path / "unfinished.py"
    path.write_text(f"from torch import nn\ndef build():\n    return {text}\n")
    with pytest.raises(ValueError, match=why):
        build_model(f"{path}:build")


def test_a_factory_has_no_stages(factory):
    with pytest.raises(ValueError, match="stages is"):
        build_model(f"{factory}:build", "linear", stages=(1,))


def test_loading_a_factory_leaves_the_search_path_alone(factory):
    before = list(sys.path)
    build_model(f"{factory}:build")
    assert sys.path == before
