"""What every core with gates is asked, beyond what is claimed without them."""

import torch


def assert_steps_equal_the_whole(core, tensors, gates, lengths=(1, 70, 1, 58)):
    expected, outputs = core(*tensors, **gates), []
    state = core.init_state(len(expected), dtype=torch.float64, device=torch.device("cpu"))
    parts = zip(*(x.split(lengths, dim=2) for x in (*tensors, *gates.values())), strict=True)
    for q, k, v, *given in parts:
        out, state = core.step(q, k, v, state, **dict(zip(gates, given, strict=True)))
        outputs.append(out)
    torch.testing.assert_close(torch.cat(outputs, dim=2), expected)


def assert_hidden_is_as_good_as_removed(core, tensors, gates):
    key_mask = torch.rand(1, tensors[0].shape[2]) < 0.6
    kept = key_mask[0].nonzero()[:, 0]
    hidden = core(*tensors, **gates, key_mask=key_mask)
    fewer = {name: gate[:, :, kept] for name, gate in gates.items()}
    torch.testing.assert_close(hidden[:, :, kept], core(*(x[:, :, kept] for x in tensors), **fewer))


def assert_half_gates_are_as_good_as_their_values(core, tensors, gates):
    """Tensors and gates in bfloat16 against the same values in float64."""
    narrow = [x.bfloat16() for x in tensors]
    given = {name: gate.bfloat16() for name, gate in gates.items()}
    out = core(*narrow, **given)
    expected = core(*(x.double() for x in narrow), **{n: g.double() for n, g in given.items()})
    assert out.dtype == torch.bfloat16
    torch.testing.assert_close(out.double(), expected, rtol=1e-2, atol=1e-3)


def assert_the_future_is_invisible(core, tensors, gates, now):
    """To the bit, in whatever later inputs and gates are."""
    out = core(*tensors, **gates)
    changed = [x.clone() for x in tensors]
    later = {name: gate.clone() for name, gate in gates.items()}
    for x in changed:
        x[:, :, now + 1 :] = 1e4 * torch.randn_like(x[:, :, now + 1 :])
    for gate in later.values():
        gate[:, :, now + 1 :] *= torch.rand_like(gate[:, :, now + 1 :])
    again = core(*changed, **later)
    assert torch.equal(again[:, :, : now + 1], out[:, :, : now + 1])
    assert not torch.equal(again, out)


def assert_gradients_equal_the_reference(core, tensors, gates):
    given = [x.clone().requires_grad_() for x in (*tensors, *gates.values())]
    q, k, v, *values = given
    named = dict(zip(gates, values, strict=True))
    out, expected = core(q, k, v, **named), core.reference(q, k, v, **named)
    torch.testing.assert_close(out, expected)
    cotangent = torch.randn_like(out)
    got = torch.autograd.grad(out, given, cotangent)
    torch.testing.assert_close(got, torch.autograd.grad(expected, given, cotangent))
