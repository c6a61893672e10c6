"""What every core with gates is asked beside the conformance suite."""

import torch


def assert_half_gates_are_as_good_as_their_values(core, tensors, gates):
    """Tensors and gates in bfloat16 against the same values in float64."""
    narrow = [x.bfloat16() for x in tensors]
    given = {name: gate.bfloat16() for name, gate in gates.items()}
    out = core(*narrow, **given)
    expected = core(*(x.double() for x in narrow), **{n: g.double() for n, g in given.items()})
    assert out.dtype == torch.bfloat16
    torch.testing.assert_close(out.double(), expected, rtol=1e-2, atol=1e-3)
