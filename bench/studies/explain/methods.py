"""Methods of explanation: from weights and gradients of a model's blocks to relevance per token.

    A^ = rownorm(A / 2 + I / 2),    R = A^_L ... A^_1,    relevance = a row of R, or their mean

Negative weights are set to 0 first, since a share of relevance cannot be negative; heads are
averaged. rownorm leaves a row of zeros as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from bench.measuring.tasks.base import Batch
from bench.measuring.tasks.model import Backbone
from bench.measuring.tasks.watching import watched


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
