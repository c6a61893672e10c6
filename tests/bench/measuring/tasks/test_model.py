"""The backbone: identical but for the mechanism, and no wider in its sight than it says."""

import pytest
import torch

from bench.measuring.tasks.base import Split, build_task
from bench.measuring.tasks.model import build_model

CORES = ["softmax", "linear", "performer", "flatten", "uniform", "none"]


def model(mechanism, task="recall", seed=0, **settings):
    return build_model(build_task(task, settings), mechanism, {}, seed)


def outside(built):
    """Weights that belong to no mechanism."""
    return {k: v for k, v in built.state_dict().items() if ".mixer.core." not in k}


@pytest.mark.parametrize("task", ["recall", "digits"])
@pytest.mark.parametrize("mechanism", CORES)
def test_all_weights_outside_the_mechanism_start_the_same(task, mechanism):
    expected, found = outside(model("softmax", task)), outside(model(mechanism, task))
    assert expected.keys() == found.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_a_mechanism_that_draws_for_itself_shifts_no_other_weight(mechanism):
    def draw(core):
        core.extra = torch.nn.Parameter(torch.randn(100))

    name = mechanism("draws", lambda core, q, k, v: v, draw)
    expected, found = outside(model("none")), outside(model(name))
    assert all(torch.equal(found[key], expected[key]) for key in expected)
    extra = [block.mixer.core.extra for block in model(name).blocks]
    assert not torch.equal(*extra)  # and each layer draws its own
    assert torch.equal(extra[0], model(name).blocks[0].mixer.core.extra)


def test_initial_weights_follow_the_seed_and_not_what_ran_before():
    first = model("softmax", seed=0).state_dict()
    torch.manual_seed(123)
    torch.rand(10)
    again, other = model("softmax", seed=0).state_dict(), model("softmax", seed=1).state_dict()
    assert all(torch.equal(again[name], first[name]) for name in first)
    drawn = [name for name in first if name.endswith("weight") and "norm" not in name]
    assert drawn
    assert not any(torch.equal(other[name], first[name]) for name in drawn)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("conv_width", [0, 1, 3])
def test_without_a_mechanism_a_token_is_seen_as_far_as_the_task_says(conv_width, causal):
    task = build_task("recall", {"conv_width": conv_width, "num_layers": 2, "causal": causal})
    net = build_model(task, "none", {}, 0)
    tokens = torch.full((1, 64), 5)
    everywhere = torch.arange(64).unsqueeze(0)
    before = net(tokens, everywhere)
    tokens[0, 30] = 6
    changed = (net(tokens, everywhere) != before).any(dim=-1).squeeze(0).nonzero().squeeze(1)
    first = 30 if causal else 30 - task.reach
    assert changed.tolist() == list(range(first, 30 + task.reach + 1))


def test_answers_at_some_tokens_are_those_of_the_whole_sequence():
    net = model("softmax")
    batch = next(build_task("recall", {}).batches(Split.TRAIN, 0))
    whole = net(batch.inputs, torch.arange(64).expand_as(batch.inputs))
    some = net(batch.inputs, batch.positions)
    expected = whole.gather(1, batch.positions.unsqueeze(-1).expand(-1, -1, 64))
    torch.testing.assert_close(some, expected)


def test_without_positions_there_is_one_answer_from_all_tokens():
    net = model("none", "digits")
    batch = next(build_task("digits", {}).batches(Split.TRAIN, 0))
    before = net(batch.inputs)
    assert before.shape == (32, 10)
    for token in (0, 63):
        inputs = batch.inputs.clone()
        inputs[:, token] += 1
        assert (net(inputs) != before).any(dim=-1).all()


def test_a_ratio_of_0_leaves_the_mlps_out():
    net = model("softmax", mlp_ratio=0)
    assert not [name for name in net.state_dict() if "mlp" in name or "norm2" in name]
    more = sum(p.numel() for p in model("softmax", mlp_ratio=1).parameters())
    assert sum(p.numel() for p in net.parameters()) == more - 2 * (2 * 64 * 64 + 2 * 64 + 2 * 64)
    assert net(torch.full((1, 64), 5), torch.arange(64).unsqueeze(0)).shape == (1, 64, 64)


@pytest.mark.parametrize("mechanism", ["softmax", "hedgehog", "gla"])
def test_zoologys_spread_is_that_of_all_weights_around_the_mechanism(mechanism):
    usual = model(mechanism, "mqar", vocab_size=256).state_dict()
    drawn = model(mechanism, "mqar", vocab_size=256, weight_std=0.02).state_dict()
    own = [name for name in usual if ".core." in name or ".gates." in name or "norm" in name]
    assert all(torch.equal(usual[name], drawn[name]) for name in own)
    for name in ("embedding.weight", "blocks.1.mlp.0.weight"):
        assert drawn[name].std().item() == pytest.approx(0.02, rel=0.1)
    projections = [n for n in drawn if n.endswith(("qkv.weight", "proj.weight"))]
    assert len(projections) == 4
    assert all(drawn[n].std().item() == pytest.approx(0.02, rel=0.1) for n in projections)
    assert not any(drawn[n.replace("weight", "bias")].any() for n in projections)


def test_mads_model_has_its_norms_mlps_head_and_first_weights():
    settings = {"embed_dim": 128, "mlp_ratio": 4.125, "conv_width": 1, "position": "none"}
    net = model("softmax", "mad_memorization", source_model=True, **settings)
    assert net.head.weight is not net.embedding.weight
    assert net.embedding.weight.std().item() == pytest.approx(0.02, rel=0.1)
    assert not any(weight.any() for name, weight in net.state_dict().items() if "bias" in name)
    norms = [m for m in net.modules() if isinstance(m, torch.nn.RMSNorm | torch.nn.LayerNorm)]
    assert len(norms) == 5 and all(isinstance(norm, torch.nn.RMSNorm) for norm in norms)
    x, mlp = torch.randn(1, 3, 128), net.blocks[1].mlp
    gate, up, down = (layer.weight for layer in (mlp.gate, mlp.up, mlp.down))
    assert gate.shape == (352, 128)  # 16 times the next whole number of 2 * 4 * 128 / 3 / 16
    expected = (torch.nn.functional.silu(x @ gate.mT) * (x @ up.mT)) @ down.mT
    torch.testing.assert_close(mlp(x), expected)
    usual = model("softmax", "mad_memorization", **settings)
    assert usual.head.weight is usual.embedding.weight


def mixed_by(net, batch):
    """Inputs of each block's output projection: (B, N, heads, channels of a head)."""
    seen = []
    for name, module in net.named_modules():
        if name.endswith("proj"):
            module.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    net(batch.inputs, batch.positions)
    return [one.unflatten(-1, (4, 16)) for one in seen]


@pytest.mark.parametrize("position", ["learned", "rope"])
@pytest.mark.parametrize("mechanism", ["softmax", "linear", "gla", "none"])
def test_a_norm_over_heads_gives_each_head_a_root_mean_square_of_1(mechanism, position):
    settings = {"causal": True, "position": position}
    batch = next(build_task("recall", settings).batches(Split.TRAIN, 0))
    normed = mixed_by(model(mechanism, head_norm=True, **settings), batch)
    usual = mixed_by(model(mechanism, **settings), batch)
    assert len(normed) == len(usual) == 2
    for heads in normed:
        sizes = heads.square().mean(-1)
        assert sizes.max() < 1.0001
        assert ((sizes - 1).abs() < 0.01).float().mean() > 0.9  # the rest is near 0, as eps is
    before = usual[0].square().mean(-1, keepdim=True)
    assert (before - 1).abs().max() > 0.1
    torch.testing.assert_close(normed[0], usual[0] * (before + 1e-5).rsqrt(), atol=1e-5, rtol=1e-4)


def test_the_norm_over_heads_has_a_scale_that_is_learned():
    net = model("softmax", head_norm=True)
    batch = next(build_task("recall", {}).batches(Split.TRAIN, 0))
    before = mixed_by(net, batch)[0]
    scale = net.blocks[0].mixer.norm.weight
    assert scale.requires_grad and scale.shape == (16,)
    with torch.no_grad():
        scale.copy_(torch.arange(1.0, 17.0))
    torch.testing.assert_close(mixed_by(net, batch)[0], before * torch.arange(1.0, 17.0))


@pytest.mark.parametrize(
    ("mechanism", "task"),
    [
        *(("softmax", "recall"), ("softmax", "digits"), ("hedgehog", "recall")),
        *(("hedgehog", "digits"), ("gla", "recall")),
    ],
)
def test_the_spread_of_linear_maps_is_that_of_all_of_them_and_biases_are_zero(mechanism, task):
    causal = {"causal": True} if task == "recall" else {}
    usual, drawn = (
        model(mechanism, task, **causal),
        model(mechanism, task, linear_std=0.05, **causal),
    )
    tied = drawn.embedding.weight if isinstance(drawn.embedding, torch.nn.Embedding) else None
    maps = {n: m for n, m in drawn.named_modules() if isinstance(m, torch.nn.Linear)}
    redrawn = {n: m for n, m in maps.items() if m.weight is not tied}
    assert len(redrawn) >= 8
    for linear in redrawn.values():
        few = max(0.1, 4 / (2 * linear.weight.numel()) ** 0.5)
        assert linear.weight.std().item() == pytest.approx(0.05, rel=few)
        assert linear.bias is None or not linear.bias.any()
    left = {n: w for n, w in drawn.state_dict().items() if n.rpartition(".")[0] not in redrawn}
    assert all(torch.equal(w, usual.state_dict()[n]) for n, w in left.items())
    assert ("head" in redrawn) == (task == "digits")  # recall's head is the embedding


def names_of(net):
    return [mixer.core.name for mixer in net.mixers]


@pytest.mark.parametrize(
    ("count", "where"),
    [(0, ()), (1, (5,)), (2, (2, 5)), (3, (1, 3, 5)), (4, (0, 2, 3, 5)), (6, range(6))],
)
def test_softmax_layers_are_evenly_spaced_and_end_with_the_last(count, where):
    net = model("gla", causal=True, num_layers=6, softmax_layers=count)
    assert [i for i, name in enumerate(names_of(net)) if name == "softmax"] == list(where)


def test_a_hybrid_of_softmax_alone_is_softmax_and_others_keep_their_weights():
    hybrid = model("gla", causal=True, softmax_layers=2).state_dict()
    softmax = model("softmax", causal=True).state_dict()
    assert hybrid.keys() == softmax.keys()
    assert all(torch.equal(hybrid[name], softmax[name]) for name in softmax)
    mixed, gla = (model("gla", causal=True, softmax_layers=n).state_dict() for n in (1, 0))
    for name, weight in mixed.items():
        own = softmax if name.startswith("blocks.1.") else gla
        assert torch.equal(weight, own[name])


POSITIONS = ("learned", "rope", "none")


def outputs(net, tokens):
    return net(tokens, torch.arange(tokens.shape[1]).expand_as(tokens))


@pytest.mark.parametrize("mechanism", ["softmax", "linear"])
@pytest.mark.parametrize("position", POSITIONS)
def test_only_without_positions_is_the_order_of_tokens_nothing(mechanism, position):
    net = model(mechanism, conv_width=0, position=position)
    tokens = torch.randint(1, 64, (1, 64))
    tokens[0, :2] = torch.tensor([3, 5])
    order = torch.arange(64).roll(1)
    before, after = outputs(net, tokens)[:, order], outputs(net, tokens[:, order])
    assert torch.allclose(before, after, atol=1e-5) == (position == "none")


@pytest.mark.parametrize("mechanism", ["softmax", "gla"])
def test_what_knows_no_places_takes_longer_sequences(mechanism):
    longer = torch.randint(1, 64, (1, 100))
    for position in ("rope", "none"):
        net = model(mechanism, conv_width=0, position=position, causal=True)
        assert outputs(net, longer).shape == (1, 100, 64)


def test_a_layer_that_owns_its_projections_takes_no_rotary_positions():
    with pytest.raises(ValueError, match="gla_layer owns its projections, so position=rope"):
        model("gla_layer", position="rope", causal=True)
