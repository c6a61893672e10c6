"""A small image model such as a user might bring: patches, one attention of torch's, a head."""

import torch
from torch import Tensor, nn


class Tiny(nn.Module):
    """(B, 3, S, S) -> (B, num_classes), of 8 pixels a patch."""

    def __init__(self, image_size: int, num_classes: int = 5) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 16, kernel_size=8, stride=8)
        self.norm = nn.LayerNorm(16)
        self.attention = nn.MultiheadAttention(16, num_heads=2, batch_first=True)
        self.head = nn.Linear(16, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.patches(x).flatten(2).transpose(1, 2)
        normed = self.norm(tokens)
        mixed, _ = self.attention(normed, normed, normed, need_weights=False)
        scores: Tensor = self.head((tokens + mixed).mean(dim=1))
        return scores


class SeesValues(Tiny):
    """Looks at values, which tensors on meta do not have."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * (2 if float(x.mean()) > 100 else 1)


class Wrong(Tiny):
    """Gives another answer in float64 than in float32."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + (x.dtype == torch.float32)


class NoTensor(Tiny):
    """Answers in a dict, as some libraries do."""

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {"logits": super().forward(x)}


def build(image_size: int) -> nn.Module:
    return Tiny(image_size)


def sees_values(image_size: int) -> nn.Module:
    return SeesValues(image_size)


def wrong(image_size: int) -> nn.Module:
    return Wrong(image_size)


def no_tensor(image_size: int) -> nn.Module:
    return NoTensor(image_size)


def no_module(image_size: int) -> str:
    return "not a module"


def breaks(image_size: int) -> nn.Module:
    raise RuntimeError("its weights are not there")
