"""Checks of constructor arguments: each error says what was given and what is allowed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from torch import Tensor

_GREATEST = 3.4028234663852886e38
"""Largest number of float32, in which features and normalisers are computed."""
_LEAST = 1e-30
"""Smallest divisor: its inverse, times an ordinary number, is still a number of float32."""
_GREATEST_SIZE = 2**31 - 1
"""No axis of a tensor here is longer: two such make a matrix whose bytes torch still can count."""
_GREATEST_WIDTH = 2**15 - 1
"""Largest width of a kernel; its square is still a size."""
_GREATEST_SEED = 2**63 - 1
"""Largest seed of torch's generators."""


def _refuse_beyond_float32(mechanism: str, argument: str, value: float) -> None:
    if abs(value) > _GREATEST:
        raise ValueError(
            f"{mechanism}: {argument} is {value!r}; float32 holds no number beyond {_GREATEST:g}."
        )


def _is_number(value: Any) -> bool:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and -math.inf < value < math.inf  # an int may be beyond all floats


def positive(mechanism: str, argument: str, value: Any) -> float:
    """A finite number above 0."""
    if not _is_number(value) or value <= 0:
        raise ValueError(f"{mechanism}: {argument} is {value!r}; a number above 0 is needed.")
    _refuse_beyond_float32(mechanism, argument, value)
    if value < _LEAST:
        raise ValueError(
            f"{mechanism}: {argument} is {value!r}; {_LEAST:g} or more is needed, as float32 has "
            "to hold its inverse."
        )
    return float(value)


def at_least(
    mechanism: str, argument: str, value: Any, least: float, *, because: str = ""
) -> float:
    """A finite number of ``least`` or more."""
    if not _is_number(value) or value < least:
        reason = f", {because}" if because else ""
        raise ValueError(
            f"{mechanism}: {argument} is {value!r}; a number of {least:g} or more is needed"
            f"{reason}."
        )
    _refuse_beyond_float32(mechanism, argument, value)
    return float(value)


def at_most(mechanism: str, argument: str, value: float, most: float, *, because: str) -> float:
    """A number, checked already, of ``most`` or less."""
    if value > most:
        raise ValueError(
            f"{mechanism}: {argument} is {value!r}; a number of {most:g} or less is needed, "
            f"{because}."
        )
    return float(value)


def share(mechanism: str, argument: str, value: Any, *, because: str) -> float:
    """A number above 0, and 1 at most."""
    return at_most(mechanism, argument, positive(mechanism, argument, value), 1, because=because)


def whole(mechanism: str, argument: str, value: Any, least: int) -> int:
    """A whole number of ``least`` or more that can be the size of something."""
    return _whole(mechanism, argument, value, least, _GREATEST_SIZE)


def odd_width(mechanism: str, argument: str, value: Any) -> int:
    """An odd whole number whose square is still a size: of kernels that keep a grid as it is."""
    width = _whole(mechanism, argument, value, 1, _GREATEST_WIDTH)
    if width % 2 == 0:
        raise ValueError(f"{mechanism}: {argument} is {value}; an odd number is needed.")
    return width


def random_seed(mechanism: str, argument: str, value: Any) -> int:
    """A whole number of 0 or more that torch's generators take."""
    return _whole(mechanism, argument, value, 0, _GREATEST_SEED)


def _whole(mechanism: str, argument: str, value: Any, least: int, most: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise ValueError(
            f"{mechanism}: {argument} is {value!r}; a whole number of {least} or more is needed."
        )
    if value > most:
        power = most.bit_length()
        raise ValueError(f"{mechanism}: {argument} is {value!r}; less than 2^{power} is needed.")
    return value


def flag(mechanism: str, argument: str, value: Any) -> bool:
    """True or False, and not something that merely counts as one of them."""
    if not isinstance(value, bool):
        raise ValueError(f"{mechanism}: {argument} is {value!r}; True or False is needed.")
    return value


def one_of(mechanism: str, argument: str, value: Any, allowed: Sequence[Any]) -> Any:
    """One of a few values."""
    # True == 1, so types are compared too.
    if not any(type(value) is type(choice) and value == choice for choice in allowed):
        choices = " or ".join(repr(choice) for choice in allowed)
        raise ValueError(f"{mechanism}: {argument} is {value!r}; {choices} is needed.")
    return value


def equal_lengths(mechanism: str, q: Tensor, k: Tensor, why: str) -> None:
    """As many keys as queries."""
    if q.shape[-2] != k.shape[-2]:
        raise ValueError(
            f"{mechanism}: {q.shape[-2]} queries and {k.shape[-2]} keys were given; {why} needs "
            "as many keys as queries."
        )


def fills_grid(mechanism: str, seq_len: int, grid: tuple[int, int]) -> None:
    """A token for each cell of the grid."""
    rows, columns = grid
    if seq_len != rows * columns:
        raise ValueError(
            f"{mechanism}: {seq_len} tokens were given; its grid of {rows}x{columns} needs "
            f"{rows * columns}."
        )
