"""The engine's products, by whichever library."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from attentions import _engine_processor, _engine_products
from attentions._engine_products import (
    backproject,
    in_whole_blocks,
    meet,
    meet_again,
    onednn_outruns_mkl,
    project,
    read,
    spread,
)

E = 6


@pytest.mark.parametrize("by_onednn", [True, False], ids=["onednn", "mkl"])
@pytest.mark.parametrize("num_heads", [1, 3])
@pytest.mark.parametrize("num_tokens", [7, 512, 576])
def test_products_are_products_whichever_library_takes_them(
    num_heads, num_tokens, by_onednn, monkeypatch
):
    if by_onednn and not torch.backends.mkldnn.is_available():
        pytest.skip("needs a build of torch with oneDNN")
    monkeypatch.setattr(_engine_products, "onednn_outruns_mkl", lambda **_: by_onednn)
    monkeypatch.setattr(_engine_products, "halves_wide_vectors", lambda: False)
    parts = [torch.randn(num_heads, num_tokens, size) for size in (16, 10)]
    sums = [torch.randn(num_heads, E, size) for size in (16, 10)]
    columns = [torch.randn(num_heads, size, 1) for size in (16, 10)]
    values = torch.randn(num_heads, num_tokens, E)
    wide = {"rtol": 1e-4, "atol": 1e-4}
    expected = sum(phi @ s.mT for phi, s in zip(parts, sums, strict=True))
    torch.testing.assert_close(read(parts, sums), expected, **wide)
    out = torch.empty(num_heads, num_tokens, E)
    found = read(parts, sums, out)
    torch.testing.assert_close(found, expected, **wide)
    is_for_onednn = by_onednn and num_heads == 1 and num_tokens >= 512
    assert (found is out) is not is_for_onednn
    apart = torch.empty(num_tokens, num_heads, E).transpose(0, 1)
    torch.testing.assert_close(read(parts, sums, apart), expected, **wide)
    torch.testing.assert_close(spread(values, sums[0]), values @ sums[0], **wide)
    projected = sum(phi @ column for phi, column in zip(parts, columns, strict=True))
    torch.testing.assert_close(project(parts, columns), projected, **wide)
    share = projected
    torch.testing.assert_close(backproject(parts[0], share), parts[0].mT @ share, **wide)
    totals = [s.clone() for s in sums]
    meet_again(totals, values, parts)
    met = meet(values, parts)
    for total, before, alone, phi in zip(totals, sums, met, parts, strict=True):
        torch.testing.assert_close(alone, values.mT @ phi, **wide)
        torch.testing.assert_close(total, before + values.mT @ phi, **wide)


@pytest.mark.parametrize("large_head", [0, 2**30])
def test_products_with_a_column_are_the_same_head_by_head(large_head, monkeypatch):
    monkeypatch.setattr(_engine_products, "_LARGE_HEAD", large_head)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    phi, column, share = (torch.randn(3, *size) for size in ((20, 7), (7, 1), (20, 1)))
    torch.testing.assert_close(project([phi, phi], [column, column]), 2 * phi @ column)
    torch.testing.assert_close(backproject(phi, share), phi.mT @ share)


LINUX = "vendor_id\t: {}\ncpu family\t: {}\nmodel\t\t: 17\n"


@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="needs oneDNN in torch")
@pytest.mark.parametrize(
    ("told", "processor", "gains", "gains_if_wide"),
    [
        (LINUX.format("GenuineIntel", 6), "", False, False),
        (LINUX.format("AuthenticAMD", 26), "", True, True),
        (LINUX.format("AuthenticAMD", 25), "", False, True),
        (None, "Intel64 Family 6 Model 207 Stepping 2, GenuineIntel", False, False),
        (None, "AMD64 Family 26 Model 2 Stepping 1, AuthenticAMD", True, True),
        (None, "AMD64 Family 25 Model 17 Stepping 1, AuthenticAMD", False, True),
    ],
)
def test_onednn_is_for_wide_vectors_that_mkl_does_not_use(
    told, processor, gains, gains_if_wide, monkeypatch
):
    def read(path):
        if told is None:
            raise FileNotFoundError(path)
        return told

    monkeypatch.setattr(_engine_processor.Path, "read_text", read)
    monkeypatch.setattr(_engine_processor.platform, "processor", lambda: processor)
    for name in ("is_intel", "halves_wide_vectors"):
        monkeypatch.setattr(_engine_products, name, getattr(_engine_processor, name).__wrapped__)
    for is_wide, expected in ((False, gains), (True, gains_if_wide)):
        for module in (_engine_processor, _engine_products):
            monkeypatch.setattr(module, "has_wide_vectors", lambda: True)
        assert onednn_outruns_mkl.__wrapped__(is_wide=is_wide) is expected
        for module in (_engine_processor, _engine_products):
            monkeypatch.setattr(module, "has_wide_vectors", lambda: False)
        assert onednn_outruns_mkl.__wrapped__(is_wide=is_wide) is False


@pytest.mark.parametrize(("halves", "num_products"), [(False, 3), (True, 2)])
def test_only_wide_matrices_go_to_onednn_where_it_gains_by_these_alone(
    halves, num_products, monkeypatch
):
    """And what becomes a matrix does not, where MKL is as fast and needs no transposed copy."""
    monkeypatch.setattr(_engine_products, "onednn_outruns_mkl", lambda *, is_wide=False: is_wide)
    monkeypatch.setattr(_engine_products, "halves_wide_vectors", lambda: halves)
    asked = []
    monkeypatch.setattr(
        _engine_products,
        "fast_linear",
        lambda x, weight: asked.append(weight.shape) or x @ weight.T,
    )
    for width in (128, 129):
        phi, values = torch.randn(1, 512, width), torch.randn(1, 512, E)
        meet(values, [phi])
        read([phi], [torch.randn(1, E, width)])
        spread(values, torch.randn(1, E, width))
    assert [129 in shape for shape in asked] == [True] * num_products


def test_a_wide_matrix_is_filled_up_with_copies_where_mkl_has_narrow_vectors(monkeypatch):
    def filled(num_rows, *, is_wide=False, dtype=torch.float32):
        monkeypatch.setattr(_engine_products, "has_wide_vectors", lambda: is_wide)
        weight = torch.randn(num_rows, E, dtype=dtype)
        found = in_whole_blocks(weight)
        assert torch.equal(found, torch.cat((weight, weight[: len(found) - num_rows])))
        return len(found)

    assert [filled(n) for n in (128, 129, 266, 272)] == [128, 144, 272, 272]
    assert filled(266, is_wide=True) == filled(266, dtype=torch.float64) == 266
    with FlopCounterMode(display=False):
        assert filled(266) == 266
