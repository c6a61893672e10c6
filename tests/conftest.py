"""What all tests share."""

import gc

import pytest

from bench.measuring.sharing import devices


def pytest_collection_finish():
    """Leave what collecting made out of later garbage collections: each would take 0.1 to 0.8 s."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True, scope="session")
def nobody_else_measures(tmp_path_factory):
    """Tests wait for no sweep that happens to run on this machine, and keep none waiting."""
    folder = tmp_path_factory.mktemp("devices")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(devices, "_folder", lambda: folder)
        yield
