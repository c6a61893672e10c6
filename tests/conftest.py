"""What all tests share."""

import gc
from pathlib import Path

import pytest

from bench.measuring.sharing import devices
from tests.kept import Kept

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(autouse=True, scope="session")
def workers():
    """One server of workers for all tests of this process, and for the commands they call in it."""
    with Kept() as server, pytest.MonkeyPatch.context() as patch:
        for user in ("bench.sweep", "bench.studies.session"):
            patch.setattr(f"{user}.WorkerServer", server.lent)
        yield server


@pytest.fixture(autouse=True, scope="session")
def configurations_are_composed_once():
    """Hydra composes one more to look for `hydra.mode`, which is a third of a command's start.

    Commands that are processes of their own do without this.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("hydra._internal.hydra.Hydra.get_mode", lambda *_, **__: None)
        yield


def pytest_collection_finish():
    """Leave what collecting made out of later garbage collections: each would take 0.1 to 0.8 s."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True, scope="session")
def nothing_is_left_beside_the_code():
    """Tests write to folders of their own: the checkout has the entries that it had before.

    Targets of the Makefile, which someone may run meanwhile, write to build/.
    """

    def entries():
        names = {path.name for path in ROOT.iterdir() if not path.name.startswith((".", "__"))}
        return names - {"build"}

    before = entries()
    yield
    assert entries() <= before, f"left in {ROOT}: {sorted(entries() - before)}"


@pytest.fixture(autouse=True, scope="session")
def nobody_else_measures(tmp_path_factory):
    """Tests wait for no sweep that happens to run on this machine, and keep none waiting."""
    folder = tmp_path_factory.mktemp("devices")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(devices, "_folder", lambda: folder)
        yield
