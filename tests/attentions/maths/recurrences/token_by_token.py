"""The recurrences of linear attention with gates, as they are written."""

import torch


def token_by_token(q, k, v, *gates_and_state):
    """Outputs and the last state; with a `beta` before the decay, by the delta rule."""
    *beta, log_decay, state = gates_and_state
    outputs = []
    for i in range(q.shape[2]):
        decay, new = log_decay[:, :, i].exp(), v[:, :, i]
        state = (decay[..., None] if decay.ndim == 3 else decay[..., None, None]) * state
        for strength in beta:
            stored = torch.einsum("bhde,bhd->bhe", state, k[:, :, i])
            new = strength[:, :, i, None] * (new - stored)
        state = state + k[:, :, i, :, None] * new[:, :, None, :]
        outputs.append(torch.einsum("bhde,bhd->bhe", state, q[:, :, i]))
    return torch.stack(outputs, dim=2), state
