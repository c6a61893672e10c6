"""Sources are read by several threads at once, as in a sweep over two cards."""

import gc
import threading
import time
from pathlib import Path

import bench
from bench.core import sources


def test_threads_may_read_sources_at_once():
    read = sources._imports.__wrapped__  # not what is kept of an earlier call
    files = [path.read_bytes() for path in Path(bench.__file__).parent.glob("core/*.py")] * 4
    refused = []

    def work():
        try:
            for file in files:
                read(file, "bench.core", "bench")
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
