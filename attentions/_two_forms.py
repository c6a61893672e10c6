"""The hyperparameter ``implementation`` of mechanisms that the engine does not run.

``auto``: our form. ``official``: the operators of published code, to be measured beside ours. Both
give the same numbers, which the authors' goldens prove.
"""

from __future__ import annotations

from .checks import one_of


def ours_or_official(mechanism: str, implementation: str) -> str:
    """The value, or a ValueError that says what is allowed."""
    return str(one_of(mechanism, "implementation", implementation, ("auto", "official")))
