"""All claims, each with a sentence, and all checks of them in the order of the claims."""

from __future__ import annotations

from bench.studies.conformance import (
    causality,
    check,
    costs,
    cuda,
    derivatives,
    exactness,
    gates,
    graphs,
    independence,
    lengths,
    masks,
    modules,
    precision,
    recurrence,
    shapes,
)

CLAIMS = {
    "shape": "shape and dtype are kept, whatever the strides; inputs are not modified",
    "any_shape": "equal to the reference at lengths and widths that no chunk divides",
    "batch": "rows of a batch are independent",
    "heads": "heads are independent",
    "order": "without positions, the order of keys does not matter",
    "forms": "only the forms that are claimed can be built, with the masks and gates claimed",
    "causal": "the future is invisible, to the bit",
    "cross": "the number of keys may differ from the number of queries",
    "padding": "hidden keys are as good as removed keys",
    "dense": "hidden pairs are as good as removed pairs",
    "recurrent": "steps equal the forward pass, however the prompt is split",
    "exact": "it is softmax attention",
    "reference": "outputs and gradients equal the reference in float64",
    "gradients": "gradients equal finite differences in float64",
    "precision": "errors in half precision are those of rounding",
    "finite": "outputs and gradients are finite on zeros and on norms from 1e-6 to 1e3",
    "autocast": "runs under torch.autocast, forward and backward",
    "deterministic": "the same seed gives the same mechanism and output",
    "state_dict": "the state dict carries everything over",
    "meta": "output shapes can be computed on the meta device",
    "inference": "training works after a call under inference mode",
    "compile": "torch.compile captures it in one graph",
    "export": "torch.export captures it with a dynamic number of tokens",
    "flops": "the FLOP formula gives what torch counts",
    "cuda": "a CUDA device gives what the CPU gives",
}
"""Badge -> what it says."""

_FILES = [
    file.__name__
    for file in (
        shapes,
        lengths,
        independence,
        masks,
        causality,
        recurrence,
        gates,
        exactness,
        derivatives,
        precision,
        modules,
        graphs,
        costs,
        cuda,
    )
]

CHECKS = tuple(
    sorted(
        check.CHECKS,
        key=lambda one: (list(CLAIMS).index(one.claim), _FILES.index(one.run.__module__)),
    )
)
