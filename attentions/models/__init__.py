"""Image classifiers with any mechanism in the place of their attention.

NaLaFormer and PVT are written here in plain torch; DeiT, PVT v2 and Swin come from timm. Names and
facts are listed without torch; a model's packages are imported when it is built.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .catalogue import ModelInfo, model_info, model_names

if TYPE_CHECKING:
    from .build import build_model

__all__ = ["ModelInfo", "build_model", "model_info", "model_names"]


def __getattr__(name: str) -> Any:
    if name != "build_model":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from .build import build_model

    return build_model
