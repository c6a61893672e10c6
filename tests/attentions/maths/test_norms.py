import pytest
import torch
from torch import nn

from attentions.maths.norms import normalise, reference_normalise


@pytest.mark.parametrize("kind", [nn.RMSNorm, nn.LayerNorm])
def test_both_forms_are_the_module(kind):
    norm = kind(5, eps=1e-5).double()
    for parameter in norm.parameters():
        nn.init.normal_(parameter)
    x = torch.randn(2, 3, 5, dtype=torch.float64)
    torch.testing.assert_close(normalise(x, norm), norm(x))
    torch.testing.assert_close(reference_normalise(x, norm), norm(x))


@pytest.mark.parametrize("kind", [nn.RMSNorm, nn.LayerNorm])
def test_what_is_wider_than_the_module_stays_wide(kind):
    assert normalise(torch.randn(2, 5), kind(5).half()).dtype == torch.float32
