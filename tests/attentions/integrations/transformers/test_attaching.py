"""Mechanisms attached to a model of transformers: their parameters belong to it."""

import pytest
import torch

from attentions import Attention
from tests.attentions.integrations.language_models import (
    PREFIX,
    SIZES,
    RecurrentCache,
    assert_same,
    attach,
    bert,
    generate,
    ids,
    llama,
    qwen3_next,
    transformers,
)


@pytest.mark.parametrize("mechanism", ["softmax", "linear", "hedgehog"])
def test_a_model_learns(mechanism):
    model = attach(llama(), mechanism).train()
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-3)
    losses = []
    for _ in range(10):
        loss = model(ids(), labels=ids()).loss
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name


def test_attached_parameters_are_in_the_state_dict_and_used_while_decoding():
    model = attach(llama(), "hedgehog")
    names = [name for name in model.state_dict() if "attnbench_core" in name]
    assert len(names) >= 2
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "attnbench_core" in name:
                parameter.add_(0.1 * torch.randn_like(parameter))
    expected = generate(model, use_cache=False)
    assert_same(generate(model), expected)
    assert_same(generate(model, cache=RecurrentCache()), expected)


def test_the_name_of_an_implementation_is_taken_too_and_a_misspelt_one_finds_its_neighbour():
    assert "linear" in str(attach(llama(), PREFIX + "linear"))
    with pytest.raises(ValueError, match=r"named 'linnear'; did you mean linear"):
        attach(llama(), PREFIX + "linnear")


def test_attaching_again_replaces_the_core_and_a_failure_keeps_it():
    model = attach(bert(), "flatten")
    expected = model(ids()).last_hidden_state
    with pytest.raises(TypeError, match="takes no hyperparameter 'alph'"):
        attach(model, "polaformer", alph=4)
    assert torch.equal(model(ids()).last_hidden_state, expected)
    assert "attnbench_core" not in " ".join(attach(model, "linear").state_dict())


def test_a_model_of_images_needs_an_example():
    config = transformers.ViTConfig(
        **{k: v for k, v in SIZES.items() if k not in ("vocab_size", "max_position_embeddings")},
        image_size=16,
        patch_size=8,
    )
    model = transformers.ViTModel(config).eval()
    with pytest.raises(ValueError, match=r"inputs=\{'pixel_values': \.\.\.\}"):
        attach(model, "flatten")
    example = {"pixel_values": torch.zeros(1, 3, 16, 16)}
    assert attach(model, "flatten", inputs=example)(**example).last_hidden_state.shape == (1, 5, 32)


@pytest.mark.parametrize(("build", "is_causal"), [(llama, True), (bert, False)])
def test_a_core_attached_for_one_direction_does_not_serve_the_other(build, is_causal):
    model = attach(build(), "hedgehog")
    for module in model.modules():
        if hasattr(module, "is_causal"):
            module.is_causal = not is_causal
    built, asked = ("causal", "not causal") if is_causal else ("not causal", "causal")
    with pytest.raises(ValueError, match=f"this call is {asked}; the core attached is {built}"):
        model(ids(), use_cache=False)


def test_a_model_with_recurrent_layers_of_its_own_is_attached_to_where_it_attends():
    model = attach(qwen3_next(num_layers=4), "linear")
    cores = [name for name, module in model.named_modules() if isinstance(module, Attention)]
    assert {name.split(".")[2] for name in cores} == {"3"}
    with pytest.raises(ValueError, match="called no attention through its interface"):
        attach(qwen3_next(num_layers=2), "linear")
