"""Memory that a call keeps for its backward pass, measured in an untimed call."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks


def saved_for_backward_bytes(forward: Callable[[], Tensor], excluded: Iterable[Tensor]) -> int:
    """Bytes of distinct storages that autograd keeps from `forward` until the backward pass.

    Inputs that are kept count, because without this mechanism they could be freed; `excluded` are
    the parameters, which live anyway.
    """
    skip = {t.untyped_storage().data_ptr() for t in excluded}
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in skip:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with saved_tensors_hooks(pack, lambda tensor: tensor):
        out = forward()
        del out
    return sum(kept.values())
