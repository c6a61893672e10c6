import pytest
import torch

from attentions import Attention, build_model

pytest.importorskip("timm")


@pytest.mark.parametrize("mechanism", ["softmax", "nala", "flatten", "polaformer", "performer"])
def test_a_mechanism_stands_in_all_blocks_and_takes_the_class_token(mechanism):
    model = build_model("deit_tiny", mechanism, image_size=32, num_classes=5).eval()
    cores = [module for module in model.modules() if isinstance(module, Attention)]
    assert [core.name for core in cores] == [mechanism] * 12
    with torch.no_grad():
        out = model(torch.randn(2, 3, 32, 32))
    assert out.shape == (2, 5) and out.isfinite().all()


def test_softmax_in_its_own_place_changes_nothing():
    torch.manual_seed(0)
    original = build_model("deit_tiny", image_size=32, num_classes=5).eval()
    torch.manual_seed(0)
    swapped = build_model("deit_tiny", "softmax", image_size=32, num_classes=5).eval()
    x = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(swapped(x), original(x), atol=1e-5, rtol=0)
