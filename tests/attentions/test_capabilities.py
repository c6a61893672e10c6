import dataclasses

import pytest

from attentions import Capabilities


def test_capabilities_are_a_value():
    assert Capabilities(causal=True) == Capabilities(causal=True)
    with pytest.raises(dataclasses.FrozenInstanceError):
        Capabilities().causal = True


def test_an_unknown_public_name_is_an_attribute_error():
    import attentions

    with pytest.raises(AttributeError, match="no attribute 'no_such_thing'"):
        attentions.no_such_thing  # noqa: B018
