import pytest
import torch

from attentions import Attention
from bench.core.cli.errors import ConfigError
from bench.measuring.tasks.base import Batch, Split, Task, build_task
from bench.measuring.tasks.match import matched
from bench.measuring.tasks.model import Backbone, build_model
from bench.measuring.weights import NoWeights, weights
from bench.studies.diagnostics import look
from bench.studies.diagnostics.look import (
    Call,
    first_examples,
    gradients,
    norm_correlation,
    of_lengths,
    of_own_norms,
    of_random,
    of_weights,
    own_calls,
    swapped_in,
    sweep_of_norms,
    take_over,
    trained_on,
)
from bench.studies.diagnostics.measures import rank_correlation, relative_entropy
from bench.studies.diagnostics.samples import Size, build_core, normal, with_spread_norms
from tests import records as made

SIZE = Size(num_heads=2, head_dim=4, num_tokens=6)


def build(name, size=SIZE, **settings):
    return build_core(name, name, settings, size)


def call_of(name, size=SIZE):
    q, k, v = (normal(size, 0, purpose) for purpose in range(3))
    return Call(core=build(name, size), q=q, k=k, v=v)


def named(name, size=SIZE):
    return {(measure, at): value for measure, at, value in of_weights(call_of(name, size))}


def test_uniform_attention_has_the_numbers_of_a_constant_matrix():
    found = named("uniform")
    assert found["entropy", ""] == pytest.approx(1)
    assert found["PSE", ""] == pytest.approx(torch.tensor(6.0).log().item())
    assert found["effective rank", ""] == pytest.approx(1, abs=1e-6)
    assert found["row sum", ""] == pytest.approx(1)
    assert found["sink mass", ""] == pytest.approx(1 / 6)
    assert found["condition", ""] == pytest.approx(1)
    assert found["mean distance", ""] == pytest.approx(35 / 18)  # (N^2 - 1) / (3 N)
    assert ("features at floor", "") not in found


def test_a_causal_row_is_compared_with_the_keys_that_it_sees():
    size = Size(num_heads=1, head_dim=4, num_tokens=5, causal=True)
    q, k, v = (normal(size, 0, purpose) for purpose in range(3))
    call = Call(core=build("softmax", size), q=0 * q, k=k, v=v)
    found = {measure: value for measure, _, value in of_weights(call)}
    assert found["entropy"] == pytest.approx(1)


def test_floor_share_is_that_of_the_core():
    core = build("performer", num_features=8)
    call = Call(core=core, q=normal(SIZE, 0, 0), k=20 * normal(SIZE, 0, 1), v=normal(SIZE, 0, 2))
    found = {measure: value for measure, _, value in of_weights(call)}
    assert found["features at floor"] == core.floor_share(call.k) > 0.5


def test_there_is_no_pse_of_negative_weights():
    size = Size(num_heads=1, head_dim=4, num_tokens=4)
    q, k, v = (normal(size, 0, i) for i in range(3))

    class Signed(Attention):
        name = "signed"
        capabilities = build("linear", size).capabilities

        def forward(self, q, k, v):
            return q @ (k.mT @ v)

        def flops(self, shape):
            return 0

    call = Call(core=Signed(size.geometry).double(), q=q, k=k, v=v)
    found = {measure: value for measure, _, value in of_weights(call)}
    w = q @ k.mT
    assert found["PSE"] is None
    assert found["share negative"] == (w < 0).double().mean().item() > 0
    expected = (w.abs().sum(-1) / w.sum(-1).abs()).max().item()
    assert found["greatest condition"] == pytest.approx(expected)
    condition = (w.abs().sum(-1) / w.sum(-1).abs()).median().item()
    assert found["condition"] == pytest.approx(condition)
    sums = w.sum(-1)
    ends = {"least row sum": sums.min(), "greatest row sum": sums.max(), "row sum": sums.mean()}
    assert {name: found[name] for name in ends} == {
        name: pytest.approx(value.item()) for name, value in ends.items()
    }
    assert found["query norm"] == pytest.approx(q.norm(dim=-1).median().item())


def test_entropy_of_softmax_falls_with_the_norm_and_that_of_flatten_does_not():
    q, k = normal(SIZE, 0, 0), normal(SIZE, 0, 1)
    low, high = sweep_of_norms(build("softmax"), q, k, [0.1, 10.0])
    assert low > 0.99 > 0.6 > high
    lengths = torch.arange(1.0, 7, dtype=q.dtype)[:, None]  # only directions are kept
    assert sweep_of_norms(build("softmax"), lengths * q, k, [0.1, 10.0]) == pytest.approx(
        [low, high]
    )
    low, high = sweep_of_norms(build("flatten"), q, k, [0.1, 10.0])
    assert low == pytest.approx(high, abs=1e-3)
    found = {at: value for measure, at, value in of_own_norms(call_of("softmax")) if at}
    assert found["q x 0.25"] > 0 > found["q x 4"]


def test_spread_norms_keep_directions_and_their_median():
    q = normal(Size(num_tokens=2000), 0, 0)
    spread = with_spread_norms(q, 3.0, 0)
    assert torch.cosine_similarity(q, spread, dim=-1).min() > 1 - 1e-9
    assert spread.norm(dim=-1).median().item() == pytest.approx(3, rel=0.05)
    assert norm_correlation(build("uniform"), normal(SIZE, 0, 0), normal(SIZE, 0, 1)) == 0


def test_rows_are_compared_with_softmax_on_queries_of_spread_norms():
    size = Size(num_heads=1, head_dim=4, num_tokens=6)
    k, spread = normal(size, 0, 1), with_spread_norms(normal(size, 0, 0), 2.0, 0)
    target, row = (spread @ k.mT / 2).softmax(dim=-1), torch.full((6, 6), 1 / 6).double()
    found = {
        measure: value
        for measure, at, value in of_random(
            lambda size, seed: build("uniform", size), size, [1.0], [2.0], 0
        )
        if at == "norms about 2"
    }
    error = (row - target).norm() / target.norm()
    assert found["error to softmax"] == pytest.approx(error.item())
    nats = (row * (row / target).log()).sum(dim=-1).mean()
    assert found["KL to softmax"] == pytest.approx(nats.item())


@pytest.mark.parametrize("causal", [False, True])
def test_entropy_is_correlated_with_the_norms_of_its_own_rows(causal):
    size = Size(num_heads=1, head_dim=4, num_tokens=6, causal=causal)
    k, spread = normal(size, 0, 1), with_spread_norms(normal(size, 0, 0), 2.0, 0)
    core = build("softmax", size)
    entropies = relative_entropy(weights(core, spread, k), causal=causal)
    lengths = spread.norm(dim=-1)[..., causal:]
    expected = rank_correlation(entropies, lengths).mean().item()
    found = {
        measure: value
        for measure, at, value in of_random(lambda size, seed: core, size, [1.0], [2.0], 0)
        if at == "norms about 2"
    }
    assert found["rank correlation"] == pytest.approx(expected)


def test_each_seed_and_purpose_has_its_own_inputs():
    drawn = [normal(SIZE, seed, purpose) for seed in range(2) for purpose in range(3)]
    drawn += [with_spread_norms(drawn[0], 2.0, seed) for seed in range(2)]
    assert len({tuple(x.flatten().tolist()) for x in drawn}) == len(drawn)


def test_what_owns_its_projections_has_no_weights_to_look_at():
    with pytest.raises(NoWeights, match="it owns its projections"):
        build("flatten_layer")


def test_softmax_beside_itself_has_no_error_and_gradients_are_those_of_autograd():
    found = {
        (measure, at): value
        for measure, at, value in of_random(
            lambda size, seed: build("softmax", size), SIZE, [1.0], [2.0], 0
        )
    }
    assert found["error to softmax", "norms about 2"] == 0
    assert found["KL to softmax", "norms about 2"] == 0
    call = call_of("uniform")
    numbers = {at: value for _, at, value in gradients(call)}
    assert numbers["q"] == numbers["k"] == 0
    stream = torch.Generator().manual_seed(0)
    cotangent = torch.randn(call.v.shape, generator=stream, dtype=torch.float64)
    expected = cotangent.mean(dim=-2).square().mean().sqrt().item()  # each value gets the mean
    assert numbers["v"] == pytest.approx(expected)


def test_errors_of_narrow_dtypes_are_of_their_size():
    found = {
        at: value
        for _, at, value in of_lengths(lambda size, seed: build("softmax", size), SIZE, [8], 0)
    }
    assert set(found) == {"bfloat16, 8 tokens", "float16, 8 tokens"}
    assert 1e-4 < found["bfloat16, 8 tokens"] < 2e-2
    assert found["float16, 8 tokens"] < found["bfloat16, 8 tokens"]


SMALL = {
    **{"vocab_size": 16, "num_pairs": 2, "seq_len": 32, "num_test_examples": 16, "batch_size": 4},
    **{"embed_dim": 16, "num_heads": 1, "learning_rate": 0.01},
}
TASK = build_task("recall", SMALL)
NAMES = ("softmax", "gla", "softmax")


def test_examples_come_from_as_many_batches_as_they_take():
    whole = Batch.join([*TASK.batches(Split.TEST, 0)])
    assert torch.equal(first_examples(TASK, 0, 10).inputs, whole.inputs[:10])


def causal_task(**more):
    return SMALL | {"causal": True, "num_layers": 2} | more


@pytest.mark.parametrize(("mechanism", "gates"), [("softmax", set()), ("gla", {"log_decay"})])
def test_inputs_of_each_core_are_seen_in_float64_for_evaluation(mechanism, gates):
    settings = causal_task()
    cell = made.task_cell(mechanism, settings=settings)
    model = build_model(build_task("recall", settings), mechanism, {}, 1).train()
    hooks = [len(module._forward_pre_hooks) for module in model.modules()]
    calls = own_calls(trained_on(cell, model), 0, 3)
    assert len(calls) == 2 and not model.training
    for call in calls:
        assert call.q.shape == (3, 1, 32, 16) and call.q.dtype == torch.float64
        assert set(call.gates) == gates
        assert all(gate.dtype == torch.float64 for gate in call.gates.values())
        assert all(p.dtype == torch.float64 for p in call.core.parameters())
    assert hooks == [len(module._forward_pre_hooks) for module in model.modules()]
    assert {p.dtype for p in model.parameters()} == {torch.float32}


def test_queries_and_keys_are_those_before_rotary_positions_rotate_them():
    settings = SMALL | {"position": "rope", "num_layers": 1}
    model = build_model(build_task("recall", settings), "softmax", {}, 1)
    (call,) = own_calls(trained_on(made.task_cell(settings=settings), model), 0, 2)
    seen = []
    layer = model.blocks[0].mixer
    layer = getattr(layer, "layer", layer)
    layer.core.register_forward_hook(lambda core, inputs, out: seen.append(out))
    model.eval()
    with torch.no_grad():
        batch = first_examples(build_task("recall", settings), 0, 2)
        model(batch.inputs, batch.positions)
        again = call.core(call.q, call.k, call.v)
    torch.testing.assert_close(again.float(), seen[0])


def test_parameters_of_equal_name_and_shape_are_taken_over_through_gates():
    task = build_task("recall", causal_task(num_layers=1))
    softmax, gla, again = (build_model(task, name, {}, i) for i, name in enumerate(NAMES))
    take_over(softmax, gla)
    take_over(gla, again)
    kept = dict(softmax.named_parameters())
    own = dict(gla.named_parameters())
    assert all(torch.equal(own[name], p) for name, p in kept.items() if name in own)
    assert {name for name in kept if "mixer" in name} <= own.keys()
    assert all(torch.equal(kept[name], p) for name, p in again.named_parameters())
    wider = build_model(build_task("recall", causal_task(vocab_size=32)), "softmax", {}, 1)
    take_over(softmax, wider)  # leaves what has another shape


def test_a_mechanism_takes_the_place_with_its_own_settings_and_a_tenth_of_its_own_rate(monkeypatch):
    seen = []
    monkeypatch.setattr(look, "fit", lambda model, task, *_: seen.append((model, task)))
    cell = made.task_cell(
        "performer",
        settings=SMALL | {"learning_rate": 0.5},
        hyperparameters={"num_features": 3},
    )
    softmax = build_model(TASK, "softmax", {}, 1)
    [*_] = swapped_in(trained_on(made.task_cell(settings=SMALL), softmax), cell, 1)
    ((model, task),) = seen
    assert task.recipe.learning_rate == pytest.approx(0.05)
    assert model.blocks[0].mixer.core.num_features == 3


def test_more_examples_than_there_are_are_bad_input():
    assert len(first_examples(TASK, 0, 16).inputs) == 16
    with pytest.raises(ConfigError, match="num_examples is 17, and the test set of recall has 16"):
        first_examples(TASK, 0, 17)


def test_what_takes_the_place_of_a_matched_softmax_has_its_size_and_its_parameters(monkeypatch):
    swapped: list[Backbone] = []
    tuned: list[Task] = []

    def fit(model, task, *_):
        swapped.append(model)
        tuned.append(task)

    monkeypatch.setattr(look, "fit", fit)
    cell = made.task_cell(settings=SMALL | {"causal": True, "match": "state"})
    own = matched(cell)[0].task.settings
    assert own["embed_dim"] != SMALL["embed_dim"]
    softmax = build_model(build_task("recall", own), "softmax", {}, 1)
    found = {(what, when): x for what, when, x in swapped_in(trained_on(cell, softmax), cell, 1)}
    assert found["drop-in regret", "before"] == 0
    kept = dict(softmax.named_parameters())
    assert all(torch.equal(p, kept[name]) for name, p in swapped[0].named_parameters())
    recipe = tuned[0].recipe
    assert (recipe.num_steps, recipe.learning_rate) == (1, pytest.approx(0.001))


@pytest.mark.parametrize(("better", "regrets"), [("higher", (0.3, 0.1)), ("lower", (-0.3, -0.1))])
def test_regret_is_how_much_worse_the_score_is(monkeypatch, better, regrets):
    scores = iter((0.9, 0.6, 0.8))
    monkeypatch.setattr(look, "score_on_test_set", lambda *_: next(scores))
    monkeypatch.setattr(look, "fit", lambda *_: None)
    monkeypatch.setattr(type(TASK), "better", better)
    cell = made.task_cell(settings=SMALL)
    softmax = build_model(TASK, "softmax", {}, 1)
    found = {(what, when): x for what, when, x in swapped_in(trained_on(cell, softmax), cell, 1)}
    assert found["drop-in regret", "before"] == pytest.approx(regrets[0])
    assert found["drop-in regret", "after"] == pytest.approx(regrets[1])
    assert found["score in softmax's place", "after"] == 0.8
