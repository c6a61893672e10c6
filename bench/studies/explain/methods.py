"""Methods of explanation, from weights and gradients of a model's blocks to relevance per token.

    A^ = rownorm(A / 2 + I / 2),    R = A^_L ... A^_1,    relevance = a row of R, or their mean

Negative weights are set to 0 first, since a share of relevance cannot be negative; heads are
averaged. rownorm leaves a row of zeros as it is.

Scores say where relevance lies, and how the answer changes with tokens.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from bench.core.settings import Name, Seed
from bench.core.statistics import BOOTSTRAP_SEED, NUM_RESAMPLES, mean_interval, percentiles
from bench.measuring.tasks.base import Batch
from bench.measuring.tasks.model import Backbone
from bench.measuring.tasks.watching import watched
from bench.publishing.document import Estimate


@dataclass(frozen=True, kw_only=True)
class Layer:
    """Activity of one block, and how a logit changes with it.

    Attributes:
        weights: (B, H, N, N), a row per query; heads twice where halves of values differ.
        weights_grad: of the logit by the weights.
        tokens: (B, N, C), the normalised input of the mechanism.
        tokens_grad: of the logit by these.
    """

    weights: Tensor
    weights_grad: Tensor
    tokens: Tensor
    tokens_grad: Tensor


def layers_for(model: Backbone, batch: Batch, classes: Tensor) -> list[Layer]:
    """Each block's weights and tokens, with the gradients of one logit per example.

    `classes`, (B,), says whose logit. The model is in eval mode, and left as it is.

    Raises:
        NoWeights: the mechanism of a block has none, with the reason.
    """
    with watched(model) as seen, torch.enable_grad():
        logits = model(batch.inputs, batch.positions)
    logits = logits if logits.dim() == 2 else logits[:, 0]  # all answers are read at one token
    chosen = logits.gather(1, classes[:, None]).sum()
    both = [*seen.weights, *seen.tokens]
    gradients = torch.autograd.grad(chosen, both, materialize_grads=True)
    count = len(seen.weights)
    return [
        Layer(weights=w.detach(), weights_grad=wg, tokens=t.detach(), tokens_grad=tg)
        for w, wg, t, tg in zip(
            seen.weights, gradients[:count], seen.tokens, gradients[count:], strict=True
        )
    ]


def rollout(layers: Sequence[Layer], identity: str) -> Tensor:
    """(B, N, N), attention rollout: Abnar and Zuidema, 2020, arXiv:2005.00928.

    It is the same for all classes.
    """
    return _product([_with_identity(_attention(layer)) for layer in layers])


def attention_gradient_rollout(layers: Sequence[Layer], identity: str) -> Tensor:
    """(B, N, N), rollout of the positive part of attention times its gradient, averaged over heads.

    The relevance of Chefer et al., 2021, arXiv:2012.09838, for self-attention, put into rollout's
    frame: rows are normalised as there.
    """
    shares = [_rownorm((y.weights * y.weights_grad).clamp(min=0).mean(dim=1)) for y in layers]
    return _product([_with_identity(share) for share in shares])


def decision_aware(layers: Sequence[Layer], identity: str) -> Tensor:
    """(B, N, N), rollout in which a prior of the class multiplies each layer's attention.

    Jo, Jang and Park, 2026, arXiv:2604.18094. Code and text were not available: summaries say that
    a localisation by gradients, of Grad-CAM's family, gives the importance of tokens for the class,
    and that it multiplies the transition matrix of each layer inside of rollout. Our reading of
    what they leave open, with `identity` for one choice:

        w   = relu(sum over channels of T * dy/dT)
        A^  = rownorm(rownorm(A diag(w / max w)) / 2 + I / 2)           identity: after_prior
        A^  = rownorm((A / 2 + I / 2) diag(w / max w))                  identity: before_prior
    """
    shares = []
    for layer in layers:
        attention, prior = _attention(layer), _prior(layer)[:, None]
        if identity == "before_prior":
            shares.append(_rownorm(_with_identity(attention) * prior))
        else:
            shares.append(_with_identity(_rownorm(attention * prior)))
    return _product(shares)


Method = Callable[[Sequence[Layer], str], Tensor]
RANDOM = "random"
"""Method of random relevance, the floor of every score."""
METHODS: dict[str, Method] = {
    "rollout": rollout,
    "attention_gradient_rollout": attention_gradient_rollout,
    "decision_aware": decision_aware,
}
NAMES = (*METHODS, RANDOM)


def relevance(
    name: str,
    layers: Sequence[Layer],
    identity: str,
    *,
    class_token: bool,
    stream: torch.Generator,
) -> Tensor:
    """(B, N) of each token, 0 or more, by the method of this name.

    Args:
        name: one of `NAMES`.
        layers: from the first to the last.
        identity: of `decision_aware`, ``after_prior`` or ``before_prior``.
        class_token: whether the model reads its answer at its first token.
        stream: for `RANDOM`.
    """
    batch_size, _, num_tokens, _ = layers[0].weights.shape
    if name == RANDOM:
        return torch.rand(batch_size, num_tokens, generator=stream)
    flow = METHODS[name](layers, identity)
    return flow[:, 0] if class_token else flow.mean(dim=1)


def _prior(layer: Layer) -> Tensor:
    """(B, N), the importance of each token for the class, 1 at most."""
    found = (layer.tokens * layer.tokens_grad).sum(dim=-1).clamp(min=0)
    return found / found.amax(dim=-1, keepdim=True).clamp(min=_LEAST)


def _attention(layer: Layer) -> Tensor:
    return _rownorm(layer.weights.clamp(min=0).mean(dim=1))


def _with_identity(share: Tensor) -> Tensor:
    return _rownorm(0.5 * share + 0.5 * torch.eye(share.shape[-1]))


_LEAST = 1e-12


def _rownorm(matrix: Tensor) -> Tensor:
    return matrix / matrix.sum(dim=-1, keepdim=True).clamp(min=_LEAST)


def _product(shares: Sequence[Tensor]) -> Tensor:
    """A_L ... A_1."""
    flow = shares[0]
    for share in shares[1:]:
        flow = share @ flow
    return flow


# --- scores --------------------------------------------------------------------------------------

NUM_SHARES = 10
"""Number of shares of tokens, none to all, over which insertion and deletion are averaged."""

Images = npt.NDArray[np.float64]
"""A number for each image; NaN where it has none."""

SCORES = ("pointing", "mass", "own", "insertion", "deletion")

Identity = Literal["after_prior", "before_prior"]
"""See `decision_aware`."""


@dataclass(frozen=True, kw_only=True)
class Scores:
    """Scores of one method on one model, as a line of ``explain.jsonl``.

    Attributes:
        accuracy: of the model, on the images that are explained.
        identity: the setting of that name.
        samples: by score, one number per image: the mean over its digits; None if it has none.
        inserted: the class's probability at each share of patches shown, the mean over images.
    """

    entry: Name
    method: Name
    seed: Seed
    accuracy: float
    identity: Identity
    samples: Mapping[str, tuple[float | None, ...]]
    inserted: tuple[float, ...]

    def of_images(self, score: str) -> Images:
        """The samples of a score."""
        return np.array(self.samples[score], dtype=np.float64)


def located(relevance: Tensor, own: Tensor, all_digits: Tensor) -> Mapping[str, Tensor]:
    """Scores of where relevance lies, (B,) each.

    ``pointing``: whether the most relevant token is of the class's digit. ``mass``: the share of
    relevance on it. ``own``: its part of what lies on any digit; NaN where nothing does, or where
    no other digit is there.

    Args:
        relevance: (B, N), 0 or more.
        own: (B, N), the tokens of the class's digit.
        all_digits: (B, N), those of any digit.
    """
    on_own = (relevance * own).sum(dim=-1)
    on_any = (relevance * all_digits).sum(dim=-1)
    has_other = (all_digits & ~own).any(dim=-1) & (on_any > 0)
    best = relevance.argmax(dim=-1, keepdim=True)
    return {
        "pointing": own.gather(-1, best)[:, 0].float(),
        "mass": on_own / relevance.sum(dim=-1).clamp(min=1e-12),
        "own": torch.where(has_other, on_own / on_any.clamp(min=1e-12), math.nan),
    }


@torch.no_grad()
def curves(
    model: nn.Module, batch: Batch, classes: Tensor, relevance: Tensor, blank: Tensor
) -> Mapping[str, Tensor]:
    """``insertion`` and ``deletion``, (B, NUM_SHARES) each: the class's probability.

    Petsiuk et al., 2018, arXiv:1806.07421. Tokens are put on a blank canvas, or taken off the full
    one, from the most to the least relevant, in `NUM_SHARES` shares from none to all. The score is
    the mean over these: higher is better for insertion, lower for deletion.

    Args:
        model: in eval mode.
        batch: B examples.
        classes: (B,), the classes whose probability is taken.
        relevance: (B, N); tokens with minus infinity come last, such as a class token.
        blank: (B, N, channels), the inputs of hidden tokens.
    """
    order = relevance.argsort(dim=-1, descending=True)
    num_tokens = int(relevance.isfinite().sum(dim=-1).min())
    found: dict[str, list[Tensor]] = {"insertion": [], "deletion": []}
    for step in range(NUM_SHARES):
        count = round(step * num_tokens / (NUM_SHARES - 1))
        changed = torch.zeros_like(relevance, dtype=torch.bool)
        changed.scatter_(1, order[:, :count], True)
        for name, is_shown in (("insertion", changed), ("deletion", ~changed)):
            inputs = torch.where(is_shown[..., None], batch.inputs, blank)
            logits = model(inputs, batch.positions)
            logits = logits if logits.dim() == 2 else logits[:, 0]
            found[name].append(logits.softmax(dim=-1).gather(1, classes[:, None])[:, 0])
    return {name: torch.stack(points, dim=1) for name, points in found.items()}


def over_models(samples: Sequence[Images]) -> Estimate | None:
    """A mean over models of one number per image each, NaN left out.

    The interval covers models of other seeds: Student's t over the means of the models. For one
    model, the estimate is that of `over_images`.
    """
    if len(samples) == 1:
        return over_images(samples[0])
    known = [own[~np.isnan(own)] for own in samples]
    if not all(map(len, known)):
        return None
    means = [float(own.mean()) for own in known]
    interval = mean_interval(means)
    if interval is None:
        return None
    return Estimate(sum(means) / len(means), *interval)


def over_images(samples: Images) -> Estimate | None:
    """Mean of one number per image, NaN left out; None if there are fewer than two numbers."""
    values = samples[~np.isnan(samples)]
    if len(values) < 2:
        return None
    draw = np.random.default_rng(BOOTSTRAP_SEED)
    means = np.empty(NUM_RESAMPLES)
    for start in range(0, NUM_RESAMPLES, _AT_ONCE):
        size = (min(_AT_ONCE, NUM_RESAMPLES - start), len(values))
        means[start : start + size[0]] = values[draw.integers(0, len(values), size=size)].mean(1)
    low, high = percentiles(means)
    return Estimate(float(values.mean()), low, high)


_AT_ONCE = 100  # resamples, so that ten thousand images take megabytes and no more
