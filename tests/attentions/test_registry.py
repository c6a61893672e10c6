import pytest
import torch

import attentions
from attentions import Capabilities, Geometry, build_attention, register_attention
from attentions.base import Attention
from attentions.catalogue import catalogue
from tests.attentions.small import NAMES, build

GEOMETRY = Geometry(num_heads=2, head_dim=8, seq_len=12)


def register(name, cls):
    return register_attention(name, title="T", source="S", capabilities=Capabilities())(cls)


def fresh_class():
    class Mean(Attention):
        def __init__(self, geometry, strength: float = 2.0, *, label="x"):
            super().__init__(geometry)

        def forward(self, q, k, v):
            return v.mean(dim=2, keepdim=True).expand(-1, -1, q.shape[2], -1)

        def flops(self, shape):
            return 0

    return Mean


def test_every_mechanism_has_a_title_and_a_source():
    for name in (entry.name for entry in catalogue()):  # plugins of other tests may be registered
        cls = attentions.attention_class(name)
        assert cls.name == name
        assert cls.title and cls.source and cls.__doc__, name
        assert isinstance(cls.capabilities, Capabilities), name


@pytest.mark.parametrize(
    ("name", "settings", "words"),
    [
        ("sofmax", {}, "named 'sofmax'; did you mean softmax"),
        ("zzzzzz", {}, r"known: agent, .*, uniform"),
        (
            "performer",
            {"num_featurs": 64},
            r"performer takes no hyperparameter 'num_featurs'\. Did you mean num_features\?"
            r"(.|\n)*It takes: num_features, kernel, eps",
        ),
        ("uniform", {"eps": 1e-6}, r"uniform takes no hyperparameter 'eps'\. It takes: none\."),
    ],
)
def test_a_misspelt_name_is_answered_with_the_nearest_or_with_all(name, settings, words):
    with pytest.raises(TypeError if settings else ValueError, match=words):
        build_attention(name, GEOMETRY, **settings)


@pytest.mark.usefixtures("own_registry")
def test_a_mechanism_from_elsewhere_is_built_like_any_other():
    cls = register("elsewhere", fresh_class())
    assert "elsewhere" in attentions.attention_names()
    assert attentions.hyperparameters("elsewhere") == {"strength": 2.0, "label": "x"}
    assert isinstance(build_attention("elsewhere", GEOMETRY, label="y"), cls)


@pytest.mark.usefixtures("own_registry")
def test_a_name_stands_for_one_class_only():
    with pytest.raises(ValueError, match=r"'softmax' is taken by attentions\.mechanisms\.softmax"):
        register("softmax", fresh_class())


@pytest.mark.usefixtures("own_registry")
def test_a_reloaded_class_takes_its_own_name_again():
    register("reloaded", fresh_class())
    again = register("reloaded", fresh_class())
    assert attentions.attention_class("reloaded") is again


SEEDED = [
    (name, seed)
    for name in NAMES
    for seed in ("seed", "projection_seed")
    if seed in attentions.hyperparameters(name)
]


@pytest.mark.parametrize(("name", "seed"), SEEDED)
def test_a_seed_decides_what_a_mechanism_draws(name, seed):
    few = {"block_size": 1} if name == "block_sparse" else {}  # or a few tokens see each other
    tensors = torch.randn(3, 1, 2, 16, 8)

    def out(number):
        return build(name, **{seed: number}, **few)(*tensors)

    assert torch.equal(out(3), out(3)) and not torch.equal(out(3), out(4))


def test_a_constructor_that_forgets_its_base_is_named(own_registry):
    cls = fresh_class()
    cls.__init__ = lambda self, geometry: None
    register("forgetful", cls)
    with pytest.raises(TypeError, match=r"forgetful: .* does not call super\(\).__init__"):
        build_attention("forgetful", GEOMETRY)
