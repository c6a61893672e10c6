"""A golden file of a whole layer, put into a layer that stands in a model."""

import torch
from torch import nn

from attentions.testing.authors.build import build_like
from attentions.testing.authors.cases import PACKAGED
from attentions.testing.authors.files import GoldenFolder
from attentions.testing.authors.map import form_of


def differs_from_authors(case: str, layer: nn.Module) -> float:
    """Largest error of a layer that got the golden's weights, over what is allowed in float64."""
    folder = GoldenFolder(PACKAGED)
    golden = folder.read(folder.header(case))
    form = form_of(golden.header)
    official = build_like(golden, form, form.mechanism)
    layer.load_state_dict(official.state_dict(), strict=True)
    x, wanted = golden.tensors["in.x"].double(), golden.tensors["out"].double()
    if x.ndim == 4:
        x, wanted = (image.flatten(2).transpose(1, 2) for image in (x, wanted))
    with torch.no_grad():
        error = (layer.double().eval()(x) - wanted).abs().max()
    return float(error) / golden.header.bounds["float64"]["out"]
