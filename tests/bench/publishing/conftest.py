import os

import pytest


@pytest.fixture
def nobody_at_home(tmp_path, monkeypatch):
    """A home without a key, so that no test depends on who runs it; it must stay empty."""
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.delenv("NETRC", raising=False)
    return home
