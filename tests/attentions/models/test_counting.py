import pytest
import torch
from torch import nn

from attentions import Geometry, build_attention, build_model
from attentions.models.counting import count_model
from tests.attentions.calls import call_of


class Small(nn.Module):
    def __init__(self):
        super().__init__()
        self.convolution = nn.Conv2d(3, 4, 2, stride=2)
        self.norm = nn.LayerNorm(4)
        self.batch_norm = nn.BatchNorm2d(4)
        self.head = nn.Linear(4, 5, bias=False)
        self.position = nn.Parameter(torch.zeros(16, 4))

    def forward(self, x):
        tokens = self.batch_norm(self.convolution(x)).flatten(2).mT + self.position
        tokens = self.norm(tokens)
        return self.head((tokens @ tokens.mT @ tokens).mean(dim=1))


def test_each_part_of_a_small_model_is_counted_as_by_hand():
    counts = count_model(Small, 8)
    convolution, products, head = 16 * 4 * 12, 2 * 16 * 16 * 4, 4 * 5
    assert counts.parameters == (48 + 4) + 8 + 8 + 20 + 64
    assert counts.module_parameters == counts.parameters - 64
    assert counts.multiply_adds == convolution + products + head
    assert counts.module_multiply_adds == convolution + head
    assert counts.norm_operations == 16 * 4 * (5 + 2)


@pytest.mark.parametrize("mechanism", ["nala", "linear", "softmax", "flatten", "performer"])
def test_a_mechanism_in_a_model_costs_what_its_formula_says(mechanism):
    def of(name):
        return count_model(lambda: build_model("nalaformer_xt", name, image_size=64), 64)

    geometry = {1: (1, 256), 2: (2, 64)}  # heads and tokens; two blocks each
    wanted = 0
    for heads, tokens in geometry.values():
        shape = call_of(tokens, 32, num_heads=heads)
        core = build_attention(mechanism, Geometry(num_heads=heads, head_dim=32, seq_len=tokens))
        wanted += 2 * core.flops(shape)
    assert 2 * (of(mechanism).multiply_adds - of("none").multiply_adds) == wanted
