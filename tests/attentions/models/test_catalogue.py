import pytest

from attentions import attention_names
from attentions.models import model_info, model_names


def test_every_model_says_where_it_comes_from_and_what_it_takes():
    for name in model_names():
        info = model_info(name)
        assert info.name == name and info.title and "arXiv:" in info.source
        assert info.image_size % info.image_size_step == 0
        assert info.min_image_size % info.image_size_step == 0
        assert info.mechanism is None or info.mechanism in attention_names()
        assert set(info.stages) <= set(range(1, info.num_stages + 1))


def test_an_unknown_name_is_met_with_the_nearest_ones():
    with pytest.raises(ValueError, match=r"'nalaformer_xs'; did you mean .*nalaformer_xt"):
        model_info("nalaformer_xs")
    with pytest.raises(ValueError, match=r"known: deit_small, .*path/to/factory\.py:build"):
        model_info("qqq")
