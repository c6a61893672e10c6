import torch

from bench.measure.memory import peak_memory_bytes, saved_for_backward_bytes

CPU = torch.device("cpu")
MIB = 2**20


def explicit(q, k, v):
    return (q @ k.transpose(-2, -1)).softmax(dim=-1) @ v


def test_the_peak_is_that_of_a_hand_count_to_the_byte():
    q = torch.randn(1, 2, 512, 64)
    scores, output = 2 * 512 * 512 * 4, q.numel() * 4
    with torch.no_grad():
        peak = peak_memory_bytes(lambda: explicit(q, q, q), CPU)
    # Scores and their softmax live together; the scores are freed before the output is made.
    assert peak == 2 * scores
    assert output < scores


def test_three_passes_agree_to_the_byte_whatever_ran_before():
    q = torch.randn(1, 2, 300, 64, requires_grad=True)

    def call():
        return torch.autograd.grad(explicit(q, q, q).sum(), q)

    first = peak_memory_bytes(call, CPU)
    torch.randn(4 * MIB).exp()  # a larger case in between must not be inherited
    assert [peak_memory_bytes(call, CPU) for _ in range(2)] == [first, first]


def test_inputs_are_not_counted():
    x = torch.randn(MIB)
    assert peak_memory_bytes(lambda: x.mul_(1.0), CPU) < 1024


def test_scratch_inside_a_fused_operator_is_counted():
    q = torch.randn(1, 2, 1024, 64)
    with torch.no_grad():
        call = lambda: torch.nn.functional.scaled_dot_product_attention(q, q, q)  # noqa: E731
        assert peak_memory_bytes(call, CPU) > q.numel() * 4


def test_what_is_saved_for_backward_is_counted_once_per_storage():
    q = torch.randn(1, 2, 256, 64, requires_grad=True)
    weights, inputs = 2 * 256 * 256 * 4, q.numel() * 4
    saved = saved_for_backward_bytes(lambda: explicit(q, q, q), [])
    assert saved == weights + inputs


def test_parameters_are_not_counted_as_saved():
    layer = torch.nn.Linear(64, 64)
    x = torch.randn(8, 64, requires_grad=True)
    assert saved_for_backward_bytes(lambda: layer(x), layer.parameters()) == x.numel() * 4


def test_a_device_that_cannot_be_measured_gives_none_and_not_another_number():
    assert peak_memory_bytes(lambda: None, torch.device("meta")) is None
