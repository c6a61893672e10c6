import torch

from attentions.testing.hard_inputs import LARGEST_NORM, hard_inputs, of_norm


def tensors():
    torch.manual_seed(0)
    return tuple(torch.randn(1, 1, 16, 8) for _ in range(3))


def test_rows_have_the_norm_that_is_asked_for_and_values_stay():
    q, k, v = tensors()
    scaled = of_norm((q, k, v), 50.0)
    for x in scaled[:2]:
        torch.testing.assert_close(x.norm(dim=-1), torch.full((1, 1, 16), 50.0))
    assert torch.equal(scaled[2], v)


def test_they_are_finite_in_their_dtype_and_reach_its_largest_norm():
    for dtype, norm in LARGEST_NORM.items():
        cases = hard_inputs(tensors(), dtype)
        norms = ("1e-06", "0.001", "1", "50", f"{norm:g}")
        zeros = ("zero queries", "zero keys", "all queries zero", "all keys zero", "all zero")
        alike = ("one number everywhere", "one token everywhere", "all negative")
        assert [*cases] == [*zeros, *alike, *(f"norm {one}" for one in norms)]
        for case, given in cases.items():
            assert all(x.to(dtype).isfinite().all() for x in given), case


def test_all_keys_are_zero_while_queries_are_not():
    q, k, _ = hard_inputs(tensors(), torch.float32)["all keys zero"]
    assert q.all() and not k.any()


def test_of_a_causal_form_the_first_query_sees_a_zero_key_alone():
    _, k, _ = hard_inputs(tensors(), torch.float32)["zero keys"]
    assert not k[..., 0, :].any() and not k[..., -1, :].any() and k[..., 1, :].all()
