import pytest

from attentions.models import build_model
from attentions.models.counting import count_model
from attentions.models.nalaformer import SIZES
from bench.model_arithmetic import Variant, count_variant
from bench.model_changes import nalaformer_changes, pola_pvt_changes


def unchanged(name):
    return count_model(lambda: build_model(name), 224)


@pytest.mark.parametrize("size", ["xt", "b"])
def test_every_change_of_a_nalaformer_has_a_name_of_its_own_and_changes_what_it_costs(size):
    changes, released = nalaformer_changes(size), count_variant(Variant(sizes=SIZES[size]))
    assert len({change.what for change in changes}) == len(changes) > 200
    assert all(change.count() != released for change in changes)


def test_a_named_change_is_the_model_that_its_name_says():
    found = {change.what: change.count() for change in nalaformer_changes("xt")}
    all_linear = unchanged("nalaformer_xt_linear")
    assert found["NaLa in stages 1, 2, 3, 4"] == all_linear
    base, deeper = unchanged("nalaformer_xt"), found["3 blocks in stage 3"]
    deepest = found["4 blocks in stage 3"]
    assert deepest.parameters - deeper.parameters == deeper.parameters - base.parameters > 0


def test_changes_of_pola_pvt_change_what_it_costs():
    released = unchanged("pola_pvt_tiny")
    counts = {change.what: change.count() for change in pola_pvt_changes("pola_pvt_tiny")}
    assert all(count != released for count in counts.values())
    # 25 products per channel and token: two blocks of each stage, 64 of 64 to 512 channels.
    channels, tokens = (64, 128, 320, 512), (3136, 784, 196, 49)
    convolved = sum(2 * 25 * c * n for c, n in zip(channels, tokens, strict=True))
    without = counts["no depthwise convolution"]
    assert released.multiply_adds - without.multiply_adds == convolved
    fewer = counts["keys of PVT's shrunken grids"]
    assert fewer.multiply_adds < released.multiply_adds < 1.2 * fewer.multiply_adds
    assert fewer.parameters > released.parameters  # the shrinking convolutions
