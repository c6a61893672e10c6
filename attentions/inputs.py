"""Check the tensors of a call against the geometry that a mechanism was built for.

Without the check torch would silently broadcast some wrong sizes and report others many operators
later. It reads sizes, dtypes and devices, never values, so it costs no synchronisation.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from .checks import whole
from .geometry import Geometry
from .precision import is_autocast

_DTYPES = {
    torch.float32: "float32",
    torch.bfloat16: "bfloat16",
    torch.float16: "float16",
    torch.float64: "float64",
}


def check_heads(
    mechanism: str,
    geometry: Geometry,
    dtypes: Sequence[str],
    q: Any,
    k: Any,
    v: Any,
    *,
    num_kv_heads: int | None = None,
) -> None:
    """Raise a ValueError unless q, k, v fit the geometry, and each other, in an accepted dtype.

    (B, H, N, D), (B, H_kv, M, D), (B, H_kv, M, E), with N and M of 1 or more and the geometry's
    H_kv unless another is given. Under autocast their dtypes may differ, since torch makes them
    equal there.
    """
    if not isinstance(q, Tensor) or not isinstance(k, Tensor) or not isinstance(v, Tensor):
        _refuse_others(mechanism, (("q", q), ("k", k), ("v", v)))
    g, q_sizes, k_sizes, v_sizes = geometry, q.shape, k.shape, v.shape
    kv_heads = num_kv_heads or g.num_kv_heads
    if len(q_sizes) != 4 or len(k_sizes) != 4:
        _refuse_heads(mechanism, g, q, k, v)
    batch_size, _, query_len, _ = q_sizes
    key_len = k_sizes[2]
    if (
        q_sizes != (batch_size, g.num_heads, query_len, g.head_dim)
        or k_sizes != (batch_size, kv_heads, key_len, g.head_dim)
        or v_sizes != (batch_size, kv_heads, key_len, g.value_dim)
        or query_len == 0
        or key_len == 0
    ):
        _refuse_heads(mechanism, g, q, k, v)
    if not (q.dtype == k.dtype == v.dtype) or q.dtype not in _DTYPES or len(dtypes) < len(_DTYPES):
        _check_dtypes(mechanism, dtypes, (("q", q), ("k", k), ("v", v)))
    if not (q.layout is k.layout is v.layout is torch.strided):
        raise ValueError(
            f"{mechanism}: q is of layout {q.layout}, k of {k.layout} and v of {v.layout}; "
            "torch.strided is needed, as after .to_dense()."
        )
    if not (q.device == k.device == v.device):
        raise ValueError(
            f"{mechanism}: q is on {q.device}, k on {k.device} and v on {v.device}; one device "
            "for all is needed."
        )


def check_tokens(
    mechanism: str,
    geometry: Geometry,
    dtypes: Sequence[str],
    x: Any,
    parameters: Iterable[Tensor] = (),
) -> None:
    """Raise a ValueError unless x is (B, N, C) in an accepted dtype, with N of 1 or more.

    That must be the dtype of some of the parameters, where there are any: projections do not
    widen, except under autocast.
    """
    if not isinstance(x, Tensor):
        _refuse_others(mechanism, (("x", x),))
    sizes = x.shape
    if len(sizes) != 3 or sizes[2] != geometry.embed_dim or sizes[1] == 0:
        raise ValueError(
            f"{mechanism}: x is of shape {tuple(sizes)}; (B, N, {geometry.embed_dim}) with N of 1 "
            "or more is needed, by its geometry."
        )
    if x.dtype not in _DTYPES or len(dtypes) < len(_DTYPES):
        _check_dtypes(mechanism, dtypes, (("x", x),))
    theirs = None
    for parameter in parameters:
        if parameter.dtype == x.dtype:
            return
        theirs = theirs or parameter.dtype
    if theirs and not is_autocast(x.device.type):
        raise ValueError(
            f"{mechanism}: x is {x.dtype} and the parameters are {theirs}; one dtype is needed, "
            f"as after .to(x.dtype)."
        )


def with_checked_tokens(step: Callable[..., tuple[Tensor, Any]]) -> Callable[..., Any]:
    """Check the tokens before a core's `step`, and the state if the step fails."""
    takes = keywords_of(step)

    @functools.wraps(step)
    def checked(self: Any, q: Tensor, k: Tensor, v: Tensor, state: Any, **gates: Any) -> Any:
        if not self.capabilities.recurrent:
            raise TypeError(f"{self.name} has no recurrent form.")
        if torch.compiler.is_compiling():
            return step(self, q, k, v, state, **gates)
        self._check_step(q, k, v)
        if gates:
            refuse_unknown(self.name, gates, takes, where=" for a step")
            check_devices(self.name, q, gates)
        if not isinstance(state, Tensor | tuple):  # sums would take None or 0 for an empty one
            _refuse_another_state(self, q, k, state)
        try:
            out, after = step(self, q, k, v, state, **gates)
        except (AttributeError, LookupError, RuntimeError, TypeError) as error:
            _refuse_another_state(self, q, k, state, error)
            raise
        if out.shape[0] != q.shape[0]:
            raise ValueError(
                f"{self.name}: the state is of a batch of {out.shape[0]}, and the tokens are of "
                f"one of {q.shape[0]}."
            )
        return out, after

    return checked


def with_checked_sizes(init_state: Callable[..., Any]) -> Callable[..., Any]:
    """Check the batch size and the dtype before `init_state`."""

    @functools.wraps(init_state)
    def checked(self: Any, batch_size: int, **settings: Any) -> Any:
        if not self.capabilities.recurrent:
            raise TypeError(f"{self.name} has no recurrent form.")
        if not torch.compiler.is_compiling():
            whole(self.name, "batch_size", batch_size, 0)
            dtype = settings.get("dtype", torch.float32)  # Python says which argument is missing
            if dtype not in _DTYPES:
                raise ValueError(
                    f"{self.name}: dtype is {dtype}; one of {', '.join(_DTYPES.values())} is "
                    "needed, that of the tokens to come."
                )
        return init_state(self, batch_size, **settings)

    return checked


def _refuse_another_state(
    core: Any, q: Tensor, k: Tensor, state: Any, error: Exception | None = None
) -> None:
    """Raise a ValueError that says how a state differs from the core's own, if it does."""
    why = what_is_wrong(state, core._empty_state_like(q, k), q.dtype, q.device)
    if why is not None:
        raise ValueError(f"{core.name}: {why}.") from error


def what_is_wrong(state: Any, own: Any, dtype: torch.dtype, device: torch.device) -> str | None:
    """How a state differs from a mechanism's own, in words; None if it does not.

    Args:
        state: what was given.
        own: an empty one for such tokens; its device does not matter.
        dtype: of the tokens.
        device: of the tokens.
    """
    if type(state) is not type(own):
        return (
            f"state is of type {type(state).__name__}; a {type(own).__name__} is needed, as "
            "init_state or the step before gave it"
        )
    given = dict(_tensors(state))
    for name, like in _tensors(own):
        x = given.get(name)
        if x is None or (x.shape, x.dtype, x.device) != (like.shape, like.dtype, device):
            said = "missing" if x is None else _described(x, x.device)
            return (
                f"state{name} is {said}; tokens of {dtype} on {device} need "
                f"{_described(like, device)}"
            )
    return None


def _tensors(state: Any) -> Iterator[tuple[str, Tensor]]:
    """The tensors of a state, with the names of their fields."""
    if isinstance(state, Tensor):
        yield "", state
    elif isinstance(state, tuple):
        fields = getattr(state, "_fields", range(len(state)))
        for field, x in zip(fields, state, strict=True):
            if isinstance(x, Tensor):
                yield f".{field}", x


def _described(x: Tensor, device: torch.device) -> str:
    return f"{x.dtype} of shape {tuple(x.shape)} on {device}"


def keywords_of(method: Callable[..., Any]) -> tuple[str, ...] | None:
    """Keywords of a method, self aside; None if it takes anything."""
    parameters = list(inspect.signature(method).parameters.values())[1:]
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        return None
    return tuple(p.name for p in parameters if p.kind is not p.POSITIONAL_ONLY)


def name_keywords(cls: Any) -> None:
    """Let `forward` and `step` of a core name the masks and gates that it claims.

    An engine takes ``**gates``, whatever their names. Who calls one of its cores, or reads its
    signature, meets the names: an unknown keyword is refused, and `step` is checked again, since
    its check reads the names.
    """
    masks = {"key_mask": "padding", "mask": "dense"}
    for method in ("forward", "step"):
        engine = inspect.unwrap(getattr(cls, method))
        parameters = inspect.signature(engine).parameters
        if (
            "gates" not in parameters
            or parameters["gates"].kind is not inspect.Parameter.VAR_KEYWORD
        ):
            continue
        claimed = [p for p in list(parameters.values())[:-1] if p.kind is not p.KEYWORD_ONLY]
        names = [m for m in masks if m in parameters and masks[m] in cls.capabilities.masks]
        claimed += [
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None)
            for name in (*names, *cls.capabilities.gates)
        ]
        named = _with_signature(engine, inspect.signature(engine).replace(parameters=claimed))
        setattr(cls, method, with_checked_tokens(named) if method == "step" else named)


def _with_signature(method: Callable[..., Any], signature: inspect.Signature) -> Callable[..., Any]:
    @functools.wraps(method)
    def named(self: Any, *args: Any, **keywords: Any) -> Any:
        return method(self, *args, **keywords)

    named.__signature__ = signature  # type: ignore[attr-defined]
    return named


def constructor(base: type, settings: Mapping[str, Any]) -> Callable[..., None]:
    """A constructor that calls that of ``base``, and names settings with their defaults."""

    def __init__(self: Any, geometry: Geometry, **given: Any) -> None:
        base.__init__(self, geometry, **given)  # type: ignore[misc]

    word, last = inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY
    parameters = [inspect.Parameter(key, word) for key in ("self", "geometry")]
    parameters += [inspect.Parameter(k, last, default=value) for k, value in settings.items()]
    __init__.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return __init__


def check_devices(mechanism: str, q: Any, keywords: Mapping[str, Any]) -> None:
    """Raise a ValueError unless masks and gates are where the queries are."""
    for argument, x in keywords.items():
        if isinstance(x, Tensor) and isinstance(q, Tensor) and x.device != q.device:
            raise ValueError(
                f"{mechanism}: {argument} is on {x.device} and q on {q.device}; one device for "
                "all is needed."
            )


def is_eager_cpu(*tensors: Tensor) -> bool:
    """Whether these are ordinary tensors on a CPU and nothing but autograd follows the operators.

    Tensors on the meta device count as well: a dry run then sees what a CPU would allocate.
    """
    if torch.compiler.is_compiling() or torch.jit.is_tracing():  # type: ignore[attr-defined, no-untyped-call]
        return False
    return all(
        type(x) in (Tensor, torch.nn.Parameter)
        and x.device.type in ("cpu", "meta")
        and torch.func.debug_unwrap(x) is x  # no transform such as vmap
        and torch.autograd.forward_ad.unpack_dual(x).tangent is None
        for x in tensors
    )


def refuse_unknown(
    mechanism: str, keywords: Mapping[str, Any], takes: Sequence[str] | None, *, where: str = ""
) -> None:
    """Say which argument a mechanism does not take, and which ones it does; None for any."""
    for key in keywords:
        if takes is not None and key not in takes:
            raise ValueError(
                f"{mechanism}: {key} was given; it takes no such argument{where}, but "
                f"{', '.join(takes) or 'none'}."
            )


def _refuse_others(mechanism: str, given: Sequence[tuple[str, Any]]) -> None:
    for argument, x in given:
        if not isinstance(x, Tensor):
            raise ValueError(
                f"{mechanism}: {argument} is of type {type(x).__name__}; a tensor is needed."
            )


def _refuse_heads(mechanism: str, g: Geometry, q: Tensor, k: Tensor, v: Tensor) -> None:
    raise ValueError(
        f"{mechanism}: q is of shape {tuple(q.shape)}, k of {tuple(k.shape)} and v of "
        f"{tuple(v.shape)}; (B, {g.num_heads}, N, {g.head_dim}), (B, {g.num_kv_heads}, M, "
        f"{g.head_dim}) and (B, {g.num_kv_heads}, M, {g.value_dim}) with N and M of 1 or more are "
        "needed, by its geometry."
    )


def _check_dtypes(
    mechanism: str, dtypes: Sequence[str], given: Sequence[tuple[str, Tensor]]
) -> None:
    """Each one accepted, and all of them alike unless torch will make them so."""
    is_cast = is_autocast(given[0][1].device.type)
    for argument, x in given:
        name = str(x.dtype).removeprefix("torch.")
        if name not in dtypes and not (is_cast and x.is_floating_point()):
            raise ValueError(f"{mechanism}: {argument} is {x.dtype}; it takes {', '.join(dtypes)}.")
    if len({x.dtype for _, x in given}) > 1 and not is_cast:
        said = ", ".join(f"{argument} is {x.dtype}" for argument, x in given)
        raise ValueError(f"{mechanism}: {said}; one dtype for all is needed.")
