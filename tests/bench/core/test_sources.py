"""Files of a closure, and their hash; threads read them at once, as in a sweep over two cards."""

import gc
import threading
import time
from pathlib import Path

import bench
from bench.core import sources


def test_a_closure_follows_relative_imports_at_every_level_and_no_others(tmp_path, monkeypatch):
    texts = dict.fromkeys(("__init__", "a/__init__", "a/near", "a/deep/__init__", "c", "d"), "")
    texts |= {"b": "from .d import more", "a/deep/er": "from ...c import C", "a/other": ""}
    texts["a/m"] = "import json\nfrom ..b import it\nfrom . import near\nfrom .deep.er import one"
    for name, text in texts.items():
        file = tmp_path / "closed" / f"{name}.py"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    files = {str(path.relative_to(tmp_path / "closed")) for path in sources.closure("closed.a.m")}
    assert files == {f"{name}.py" for name in ("a/m", "b", "d", "a/near", "a/deep/er", "c")}


def test_of_absolute_imports_those_of_tasks_count():
    text = b"from bench.measuring.tasks.base import Task\nfrom bench.core import cell\nimport torch"
    found = sources._imports(text, "bench.measuring.tasks", "bench")
    assert found == ("bench.measuring.tasks.base", "bench.measuring.tasks.base.Task")


def test_a_hash_does_not_depend_on_the_order_in_which_files_are_found(monkeypatch):
    files = sorted(Path(sources.__file__).parent.glob("*.py"))
    monkeypatch.setattr(sources, "closure", lambda module: files[:: 1 if module == "a" else -1])
    assert sources.hash_closure("a") == sources.hash_closure("b")


CODE = b'''"""Formula."""
WIDE = 3  # heads
"""Attribute."""
def f(x, *, y=None, **z):
    """Sum."""
    match x:
        case {"a": [1.0, *_]} | None:
            return [f"{x!r:>{WIDE}} it's {y=}" "and" f"\xc3\xa9 {{}}", b"0", 1e-12, u"s", -1j, ...]
    return lambda v: (w := {**z, "k": v @ x})
'''


def test_comments_docstrings_and_layout_are_no_part_of_what_a_file_says():
    said = sources._parsed(CODE)[1]
    assert said.hex()[:16] == "25091cc502bd2345", "the same under every version of Python"
    for old, new in [
        (b"Formula", b"Another"),
        (b"  # heads", b"  # layers"),
        (b'"""Attribute."""\n', b""),
        (b'    """Sum."""\n', b"\n\n"),
        (b'u"s"', b"'s'"),
        (b"WIDE = 3", b"WIDE = (\n    3\n)"),
    ]:
        assert sources._parsed(CODE.replace(old, new))[1] == said
    for old, new in [
        (b"WIDE = 3", b"WIDE = 3.0"),
        (b">{", b"<{"),
        (b"y=None", b"y=0"),
        (b"{{}}", b"{{}} "),
        (b"v @ x", b"x @ v"),
        (b"1e-12", b"1e-13"),
        (b"None:", b"False:"),
        (b"**z)", b"**w)"),
    ]:
        assert sources._parsed(CODE.replace(old, new))[1] != said, new


def test_threads_may_read_sources_at_once():
    read = sources._parsed.__wrapped__  # not what is kept of an earlier call
    files = [path.read_bytes() for path in Path(bench.__file__).parent.glob("core/*.py")] * 4
    refused = []

    def work():
        try:
            for file in files:
                read(file)
        except SystemError as error:  # of Python 3.11
            refused.append(error)

    switch, often = (lambda *_: time.sleep(0)), gc.get_threshold()
    gc.callbacks.append(switch)  # lets the other thread on in the middle of a tree
    gc.set_threshold(50)
    try:
        threads = [threading.Thread(target=work) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        gc.callbacks.remove(switch)
        gc.set_threshold(*often)
    assert refused == []
