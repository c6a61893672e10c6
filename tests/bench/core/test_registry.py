import sys

import pytest

from bench.core.registry import Registry, UnknownName

FIRST = "from rooms import THINGS\ndef one(): ...\nTHINGS.enter('one', 1, one)\n"


@pytest.fixture
def rooms(tmp_path, monkeypatch):
    """A registry in a package with a module that registers."""
    (tmp_path / "rooms").mkdir()
    text = "from bench.core.registry import Registry\n"
    text += "THINGS = Registry('thing', 'rooms')\n"
    (tmp_path / "rooms/__init__.py").write_text(text)
    (tmp_path / "rooms/first.py").write_text(FIRST)
    for name in ("rooms", "rooms.first"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    from rooms import THINGS

    found: Registry[int] = THINGS
    return found


def test_things_are_found_registered_once_and_asked_for_by_near_names(rooms):
    def one(): ...

    with pytest.raises(ValueError, match=r"thing name 'one' is taken by rooms\.first\.one; tests"):
        rooms.enter("one", 2, one)  # registered before anything was looked up
    rooms.enter("two", 2, one)
    rooms.enter("two", 3, one)  # as when its module is reloaded
    assert (rooms.names(), rooms.find("one"), rooms.find("two")) == (("one", "two"), 1, 3)
    with pytest.raises(UnknownName, match=r"No thing is named 'ones'\. Did you mean one"):
        rooms.find("ones")
