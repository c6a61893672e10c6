"""`python -m bench.measuring.worker FD PARENT`: the server, on that control socket."""

from __future__ import annotations

import signal
import socket
import sys

from bench.measuring.worker.preload import preload
from bench.measuring.worker.processes import end_with
from bench.measuring.worker.serve import serve

if __name__ == "__main__":
    descriptor, parent = map(int, sys.argv[1:])
    end_with(parent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    preload()
    # From here on it has workers to end first, and learns from its socket that the parent is gone.
    # SIGCONT only wakes it for that.
    end_with(parent, signal.SIGCONT)
    serve(socket.socket(fileno=descriptor))
