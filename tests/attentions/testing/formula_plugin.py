"""A plug-in with a right formula, one that is wrong by 2 %, and one that nothing confirms."""

from attentions import register_attention
from tests.attentions.testing import formula_mechanisms as made

for _name, _kind in {
    "right": made.off_by(made.Explicit, 1.0, "flops"),
    "wrong": made.off_by(made.Explicit, 1.02, "flops", "executed_flops"),
    "unseen": made.off_by(made.Fourier, 1.0, "flops"),
}.items():
    _kind.__module__, _kind.__qualname__ = __name__, _name
    register_attention(
        _name, title=_name, source="tests", capabilities=_kind.__mro__[1].capabilities
    )(_kind)
