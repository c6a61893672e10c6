import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from attentions.maths.tables import _MOST, kept


def ramp():
    """A table, and the sizes of those that were made."""
    made = []

    @kept
    def table(size, dtype=torch.float64):
        made.append(size)
        return torch.arange(size, dtype=dtype), torch.ones(size, dtype=dtype)

    return table, made


def test_a_table_is_made_once_for_each_of_the_last_sizes():
    table, made = ramp()
    assert table(3)[0] is table(3)[0]
    assert table(3, dtype=torch.float32)[0].dtype == torch.float32
    for size in range(10, 10 + _MOST):
        table(size)
    assert made == [3, 3, *range(10, 10 + _MOST)]
    table(17)
    table(3)
    assert made[-1] == 3 and len(made) == 3 + _MOST


@pytest.mark.parametrize("transform", [torch.func.grad, torch.func.hessian, torch.inference_mode()])
def test_a_table_first_made_elsewhere_can_be_trained_with_later(transform):
    table, made = ramp()

    def squares(x):
        return (x * table(4)[0]).square().sum()

    transform(squares)(torch.ones(4, dtype=torch.float64))
    x = torch.ones(4, dtype=torch.float64, requires_grad=True)
    torch.func.vmap(squares)(x[None]).sum().backward()
    torch.testing.assert_close(x.grad, 2 * torch.arange(4).double().square())
    assert made == [4]


def test_what_a_compiler_traces_is_not_kept():
    table, made = ramp()
    compiled = torch.compile(lambda x: x * table(3)[0], backend="eager", fullgraph=True)
    assert compiled(torch.ones(3)).tolist() == [0, 1, 2]
    table(3)
    assert made == [3, 3]


def test_what_is_made_under_fake_tensors_is_made_again():
    table, made = ramp()
    with FakeTensorMode():
        table(5)
    assert type(table(5)[0]) is torch.Tensor
    assert made == [5, 5]
