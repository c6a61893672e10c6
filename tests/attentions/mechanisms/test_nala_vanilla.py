import math
from functools import partial

import pytest
import torch
from torch.nn import functional

from tests.attentions.calls import built

build = partial(built, "nala_vanilla", grid=(3, 5), head_dim=8)


def turned(x, row, column):
    """One head's vector: rows turn the first half of its pairs, columns the second."""
    dim = len(x)
    out = x.clone()
    for pair in range(dim // 2):
        place = row if pair < dim // 4 else column
        exponent = pair % (dim // 4) / max(dim // 4 - 1, 1)
        angle = place * 10_000**-exponent
        a, b = x[2 * pair], x[2 * pair + 1]
        out[2 * pair] = a * math.cos(angle) - b * math.sin(angle)
        out[2 * pair + 1] = a * math.sin(angle) + b * math.cos(angle)
    return out


def layer_by_hand(layer, x):
    """One pair of tokens at a time, for one batch row: (N, C) -> (N, C)."""
    (rows, columns), heads = layer.geometry.grid, layer.geometry.num_heads
    q, k, v, gate = layer.qkvg(x).chunk(4, dim=-1)
    mixed = torch.zeros_like(v)
    for h in range(heads):
        part = slice(h * layer.geometry.head_dim, (h + 1) * layer.geometry.head_dim)
        vectors = []
        for side in (q, k):
            vectors.append(
                [
                    turned(side[i, part], *divmod(i, columns)) if layer.rope else side[i, part]
                    for i in range(rows * columns)
                ]
            )
        for i, query in enumerate(vectors[0]):
            scores = [math.exp(query @ key / math.sqrt(len(key))) for key in vectors[1]]
            for j, score in enumerate(scores):
                mixed[i, part] += score / sum(scores) * v[j, part]
    image = v.T.unflatten(1, (rows, columns))[None]
    local = functional.conv2d(
        image, layer.lepe.weight, layer.lepe.bias, padding=2, groups=image.shape[1]
    )
    normed = functional.layer_norm(
        mixed + local[0].flatten(1).T, (x.shape[-1],), layer.norm.weight, layer.norm.bias
    )
    return layer.proj(normed * functional.silu(gate))


@torch.no_grad()
@pytest.mark.parametrize("settings", [{}, {"rope": False}, {"head_dim": 4}], ids=str)
def test_it_is_the_softmax_layer_of_the_backbones(settings):
    layer = build(**settings)
    for parameter in layer.parameters():
        parameter.add_(0.3 * torch.randn_like(parameter))
    x = torch.randn(2, 15, layer.geometry.embed_dim, dtype=torch.float64)
    expected = torch.stack([layer_by_hand(layer, row) for row in x])
    torch.testing.assert_close(layer(x), expected)
    torch.testing.assert_close(layer.reference(x), expected)


def test_pairs_of_channels_that_do_not_halve_are_refused_with_rope_alone():
    with pytest.raises(ValueError, match="nala_vanilla: head_dim is 6; a multiple of 4"):
        build(head_dim=6)
    assert build(head_dim=6, rope=False).rope is False
