import pytest
import torch

from attentions import checks as _checks


@pytest.mark.parametrize("value", [1e39, 1e308, 10**400])
def test_what_float32_cannot_hold_is_refused(value):
    assert _checks.positive("nala", "tau", 3e38) == 3e38
    for refuse in (_checks.positive, lambda *words: _checks.at_least(*words, 1)):
        with pytest.raises(ValueError, match=r"nala: tau is .*; float32 holds no number beyond"):
            refuse("nala", "tau", value)


def test_what_torch_cannot_count_is_refused():
    assert _checks.whole("topk", "k", 2**31 - 1, 1) == 2**31 - 1
    with pytest.raises(ValueError, match=r"topk: k is 2147483648; less than 2\^31 is needed"):
        _checks.whole("topk", "k", 2**31, 1)
    assert _checks.random_seed("rfa", "projection_seed", 2**63 - 1) == 2**63 - 1
    with pytest.raises(ValueError, match=r"seed is 9223372036854775808; less than 2\^63"):
        _checks.random_seed("rfa", "projection_seed", 2**63)
    with pytest.raises(ValueError, match="seed is -1; a whole number of 0 or more is needed"):
        _checks.random_seed("rfa", "projection_seed", -1)


def test_one_of_tells_true_from_one():
    assert _checks.one_of("performer", "ortho_scaling", 1, (0, 1)) == 1
    # A tensor is equal to a number entry by entry, which is no answer.
    for wrong in (True, 1.0, "1", 2, torch.tensor([0, 1])):
        with pytest.raises(ValueError, match="0 or 1 is needed"):
            _checks.one_of("performer", "ortho_scaling", wrong, (0, 1))
