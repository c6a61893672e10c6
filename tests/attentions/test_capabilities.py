import dataclasses
import subprocess
import sys

import pytest

from attentions import Capabilities


def test_capabilities_are_a_value():
    assert Capabilities(causal=True) == Capabilities(causal=True)
    with pytest.raises(dataclasses.FrozenInstanceError):
        Capabilities().causal = True


def test_capabilities_and_the_package_are_known_without_loading_torch():
    code = "import sys, attentions; attentions.Capabilities(); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_an_unknown_public_name_is_an_attribute_error():
    import attentions

    with pytest.raises(AttributeError, match="no attribute 'no_such_thing'"):
        attentions.no_such_thing  # noqa: B018
