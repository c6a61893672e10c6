import importlib.util

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
            for n in (0, 33, True)
        ),
        (XT, {"mechanism": "gated_deltanet"}, "gated_deltanet is causal only"),
        (XT, {"mechanism": "nalla"}, "did you mean nala"),
        (
            XT,
            {"mechanism": "agent", "num_agents": 5},
            r"nalaformer_xt, stage 1 with 1 heads on a 8x8 grid: agent: num_agents is 5",
        ),
        *((XT, {"stages": s}, "allowed are some of 1, 2, 3, 4") for s in ((5,), ())),
        *(("pvt_tiny", given, "without a mechanism") for given in ({"lam": 2}, {"stages": (1,)})),
    ],
)
def test_what_a_model_does_not_take_is_refused(name, settings, why):
    with pytest.raises(ValueError, match=why):
        build_model(name, **{"image_size": 32} | settings)


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
        ("{path}:missing", "defines no function 'missing'; it has: Tiny, build, number"),
        ("{path}:number", "returned a int; an nn.Module is needed"),
    ],
)
def test_a_factory_that_cannot_be_used_is_explained(factory, name, why):
    with pytest.raises(ValueError, match=why):
        build_model(name.format(path=factory))
