"""Small models whose attention tests replace."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from attentions.integrations.swapped import Swapped

IMAGE = 32


def needs_timm() -> Any:
    return pytest.importorskip("timm", reason="needs timm: pip install 'attnbench[models]'")


def vision_transformer(**settings: Any) -> nn.Module:
    """Two blocks on a grid of 4x4 patches, with a class token unless said otherwise."""
    timm = needs_timm()
    torch.manual_seed(0)
    sizes = {"img_size": IMAGE, "patch_size": 8, "embed_dim": 32, "depth": 2, "num_heads": 2}
    model = timm.models.VisionTransformer(**{**sizes, "num_classes": 5, **settings})
    return model.eval()


def without_class_token(**settings: Any) -> nn.Module:
    return vision_transformer(class_token=False, global_pool="avg", **settings)


def images(rows: int = IMAGE, columns: int = IMAGE) -> Tensor:
    return torch.randn(2, 3, rows, columns, generator=torch.Generator().manual_seed(1))


def encoder(*, batch_first: bool = True, norm_first: bool = False) -> nn.TransformerEncoder:
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(
        16, 2, 32, dropout=0.0, batch_first=batch_first, norm_first=norm_first
    )
    return nn.TransformerEncoder(layer, 2, enable_nested_tensor=batch_first and not norm_first)


def tokens() -> Tensor:
    return torch.randn(3, 7, 16, generator=torch.Generator().manual_seed(1))


def padding() -> Tensor:
    """Torch's way round: True hides."""
    hidden = torch.zeros(3, 7, dtype=torch.bool)
    hidden[1, 5:] = True
    return hidden


def losses(model: nn.Module, call: Callable[[], Tensor], steps: int = 10) -> list[float]:
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-3)
    seen = []
    for _ in range(steps):
        loss = call().square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        seen.append(loss.item())
    return seen


def replaced(model: nn.Module) -> set[str]:
    return {name for name, module in model.named_modules() if isinstance(module, Swapped)}
