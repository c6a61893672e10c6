"""`python -m bench.worker FD`: the server, on the control socket of that file descriptor."""

from __future__ import annotations

import signal
import socket
import sys

from bench.worker.preload import preload
from bench.worker.serve import serve

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    preload()
    serve(socket.socket(fileno=int(sys.argv[1])))
