"""Decoding: cached keys and values, or a recurrent state, give what no cache gives."""

import pytest
import torch

from tests.attentions.integrations.language_models import (
    AttentionFunction,
    RecurrentCache,
    assert_same,
    attach,
    cache_argument,
    generate,
    gpt2,
    ids,
    llama,
    mistral,
    padding,
    qwen3_next,
    with_mechanism,
)


def test_left_padding_is_as_good_as_removed():
    model = with_mechanism(gpt2(), "linear")
    together = generate(model, attention_mask=padding(left=True))
    alone = generate(model, input_ids=ids()[1:, 3:])
    assert torch.equal(together.sequences[1, 3:], alone.sequences[0])


@pytest.mark.parametrize("mechanism", ["softmax", "linear", "performer", "taylor", "topk"])
def test_keys_and_values_in_the_cache_give_the_same_tokens(mechanism):
    model = with_mechanism(llama(), mechanism)
    assert_same(generate(model), generate(model, use_cache=False))


@pytest.mark.parametrize("mechanism", ["linear", "cosformer", "lightning", "retnet", "performer"])
def test_a_recurrent_state_gives_the_same_tokens(mechanism):
    model = with_mechanism(llama(), mechanism)
    assert_same(generate(model, cache=RecurrentCache()), generate(model, use_cache=False))


def test_a_draw_of_features_that_was_restored_is_used_with_the_cache_too():
    model = attach(llama(), "performer", num_features=16)
    others = attach(llama(), "performer", num_features=16, projection_seed=5)
    model.load_state_dict(others.state_dict())
    expected = generate(others, use_cache=False)
    assert_same(generate(model, use_cache=False), expected)
    assert_same(generate(model), expected)


@pytest.mark.parametrize("mechanism", ["linear", "retnet"])
def test_beams_take_their_state_with_them(mechanism):
    model = with_mechanism(gpt2(), mechanism)
    beams = generate(model, cache=RecurrentCache(), num_beams=3)
    expected = generate(model, use_cache=False, num_beams=3)
    assert torch.equal(beams.sequences, expected.sequences)


@pytest.mark.parametrize(
    ("rearrange", "rows"),
    [
        (lambda cache: cache.reorder_cache(torch.tensor([1, 0])), [1, 0]),
        (lambda cache: cache.reorder_cache(torch.tensor([1, 1])), [1, 1]),
        (lambda cache: cache.batch_repeat_interleave(2), [0, 0, 1, 1]),
        (lambda cache: cache.batch_select_indices(torch.tensor([1])), [1]),
    ],
    ids=["beams_swapped", "one_beam_twice", "rows_repeated", "rows_selected"],
)
@pytest.mark.parametrize("mechanism", ["linear", "performer"])
def test_a_row_goes_on_from_the_text_that_was_chosen_for_it(mechanism, rearrange, rows):
    model = with_mechanism(gpt2(), mechanism)
    cache = RecurrentCache()
    call = {cache_argument(): cache, "use_cache": True}
    model(ids(), **call)
    rearrange(cache)
    texts = torch.cat([ids()[rows], torch.full((len(rows), 1), 7)], dim=1)
    after = model(texts[:, -1:], **call).logits[:, -1]
    expected = model(texts, use_cache=False).logits[:, -1]
    torch.testing.assert_close(after, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("mechanism", "mend"),
    [
        ("lightning", "pass a RecurrentCache"),
        ("block_sparse", "use_cache=False"),
        # It takes other numbers of keys than of queries; its weights depend on where they are.
        ("cosformer", "pass a RecurrentCache"),
    ],
)
def test_a_mechanism_that_cannot_use_cached_keys_says_what_to_do(mechanism, mend):
    with pytest.raises(ValueError, match=f"cannot go on from cached keys and values; {mend}"):
        generate(with_mechanism(gpt2(), mechanism))


@pytest.mark.parametrize(
    ("mechanism", "message"),
    [
        ("block_sparse", "no recurrent form"),
        ("topk", "leave them to the model's own cache"),
        ("softmax", "leave them to the model's own cache"),
        ("softmax_chunked", "leave them to the model's own cache"),
    ],
)
def test_a_mechanism_without_a_small_state_refuses_the_cache(mechanism, message):
    with pytest.raises(ValueError, match=message):
        generate(with_mechanism(gpt2(), mechanism), cache=RecurrentCache())


def test_a_state_takes_in_a_models_window_until_it_hides_something():
    model = with_mechanism(mistral(window=32), "linear")
    assert_same(generate(model, cache=RecurrentCache()), generate(model, use_cache=False))
    model = with_mechanism(mistral(window=12), "linear")
    with pytest.raises(ValueError, match="hidden by padding or a window"):
        generate(model, cache=RecurrentCache())


def test_padding_is_refused_where_a_state_would_take_it_in():
    model = with_mechanism(gpt2(), "linear")
    with pytest.raises(ValueError, match="decode texts of one length together"):
        generate(model, cache=RecurrentCache(), attention_mask=padding(left=True))
    call = {cache_argument(): RecurrentCache(), "use_cache": True}
    model(ids(), **call)
    kept = torch.ones(2, 10, dtype=torch.long)
    kept[0, 3] = 0  # of a token that the state has taken in
    with pytest.raises(ValueError, match="decode texts of one length together"):
        model(ids(1), attention_mask=kept, **call)


def test_a_model_with_recurrent_layers_of_its_own_needs_its_own_cache():
    model = attach(qwen3_next(num_layers=4), "linear")
    with pytest.raises(ValueError, match="use the model's own cache, or use_cache=False"):
        generate(model, cache=RecurrentCache())


@pytest.mark.parametrize("is_padded", [False, True])
def test_the_last_of_many_tokens_see_themselves_and_what_came_before_and_was_kept(is_padded):
    q, k, v = torch.randn(3, 2, 4, 10, 8).unbind()
    keep = None
    if is_padded:
        keep = torch.ones(2, 1, 1, 10, dtype=torch.bool)
        keep[0, ..., :3] = False
    whole, _ = AttentionFunction("softmax")(torch.nn.Module(), q, k, v, keep)
    for first in (9, 7):  # a token, and a part of a prompt
        last, _ = AttentionFunction("softmax")(torch.nn.Module(), q[:, :, first:], k, v, keep)
        torch.testing.assert_close(last, whole[:, first:])


def test_a_cache_that_is_reset_is_a_new_one():
    model, cache = with_mechanism(gpt2(), "linear"), RecurrentCache()
    first = generate(model, cache=cache)
    cache.reset()
    assert cache.get_seq_length() == 0
    assert_same(generate(model, cache=cache), first)
    cache.reset()
    with pytest.raises(ValueError, match="never reached a recurrent mechanism"):
        generate(gpt2(), cache=cache)
    cache.reset()
    assert_same(generate(model, cache=cache), first)
