import pytest

from attentions import Capabilities, register_attention


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ({"devices": None}, "devices is None; some words are needed"),
        ({"dtypes": "float32"}, "dtypes is 'float32'"),
        ({"masks": True}, "masks is True"),
        ({"requires": ("fla.ops",)}, "requires names 'fla.ops'; a package is needed"),
        ({"gates": {"beta": 5}}, "a mapping of names to Gate is needed"),
        ({"gates": ["beta"]}, "a mapping of names to Gate is needed"),
    ],
)
def test_what_is_no_claim_is_refused_where_it_is_made(words, said):
    with pytest.raises((TypeError, ValueError), match=said):
        Capabilities(**words)


def test_a_mechanism_is_registered_with_capabilities_alone():
    with pytest.raises(TypeError, match="mine: capabilities is None; Capabilities are needed"):
        register_attention("mine", title="", source="", capabilities=None)
