"""A plug-in that replaces a function of torch at import, as guides of some kernels recommend."""

from __future__ import annotations

import os

from torch.nn import functional

from bench.core.cli.temporary import WORKERS_FOLDER
from bench.core.record import Status
from tests.cheats.misdeeds import Honest, misdeed

_original = functional.scaled_dot_product_attention


def _slower(*args, **kwargs):
    sum(range(10_000))
    return _original(*args, **kwargs)


if WORKERS_FOLDER in os.environ:  # in workers alone: other tests share this process
    functional.scaled_dot_product_attention = _slower


@misdeed(
    "replaces_at_import",
    "replaces `scaled_dot_product_attention` as it is imported",
    ends=Status.ERROR,
    says="the import of tests.cheats.at_import changed torch.nn.functional.scaled_dot_product",
)
class ReplacesAtImport(Honest):
    pass
