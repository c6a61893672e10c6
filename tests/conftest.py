"""Fixtures of all tests."""

import gc
import importlib.util
import signal
from pathlib import Path

import pytest

from bench.measuring.sharing import devices
from bench.publishing.charts import write
from tests.kept import Kept

ROOT = Path(__file__).resolve().parent.parent

# A shell that is not interactive ignores Ctrl-C in what it starts with &, and children inherit it.
signal.signal(signal.SIGINT, signal.default_int_handler)


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


@pytest.fixture(autouse=True, scope="session")
def drawn_elsewhere():
    """Pictures are drawn in this process, where the library starts once; gives what is replaced.

    Commands that are processes of their own do without this.
    """
    original = write._drawn

    def drawn(specs):
        if importlib.util.find_spec("vl_convert") is None:
            return original(specs)
        import vl_convert

        return [vl_convert.vegalite_to_svg(spec) for spec in specs], ""

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(write, "_drawn", drawn)
        yield original


@pytest.fixture
def one_thread():
    """Products of one thread, which are the faster the smaller they are."""
    import torch  # which takes seconds, and not all tests need it

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def own_registry(monkeypatch):
    """A registry in which a test may enter what it likes."""
    from attentions import registry

    registry.attention_names()
    monkeypatch.setattr(registry, "_REGISTRY", dict(registry._REGISTRY))
    return registry


@pytest.fixture
def exits(capsys):
    """``exits(2, main(words))``: what a command that ends so has said of an error.

    With 0 it is what was printed. No command shows a traceback.
    """

    def said(expected, code):
        out, err = capsys.readouterr()
        assert code == expected, out + err
        assert "Traceback" not in out + err
        return err if code else out

    return said


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
