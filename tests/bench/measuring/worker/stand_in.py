"""A server of workers without torch, whose workers do what they are asked to: `-m` it as the real.

Jobs ``fine``, ``hang``, ``long_line``, ``no_message``, ``steps`` without end, ``deaf``, which asks
and does not hear, and ``child``, which starts a process that outlives its worker and says its
number.
"""

import os
import signal
import socket
import subprocess
import sys
import time

from bench.core.record import Status
from bench.measuring.worker import serve
from bench.measuring.worker.outcome import Outcome
from bench.measuring.worker.processes import end_with
from bench.measuring.worker.results import ProbeResult

OUTLIVE = "import time; time.sleep(1000)"


def answer(request, channel):
    job = request["job"]
    if job == "hang":
        channel.send(step=str(os.getpid()))
        time.sleep(1000)
    if job in ("kill_server", "stop_server"):
        os.kill(os.getppid(), signal.SIGKILL if job == "kill_server" else signal.SIGSTOP)
    while job == "steps":
        channel.send(step="again")
    while job == "deaf":
        channel.send(round=[1.0], waits=True)
    if job == "long_line":
        channel._sock.sendall(b"x" * 10_000_000)
    if job == "no_message":
        channel._sock.sendall(b"[1]\n")
    if job == "child":
        words = {
            "same group": [sys.executable, "-c", OUTLIVE],
            "new session": ["setsid", sys.executable, "-c", OUTLIVE],
            "daemon": ["sh", "-c", f"setsid {sys.executable} -c '{OUTLIVE}' & echo $!"],
            "without environment": ["env", "-i", "setsid", sys.executable, "-c", OUTLIVE],
        }[request["how"]]
        child = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
        number = int(child.stdout.readline()) if request["how"] == "daemon" else child.pid
        channel.send(step=str(number))
        if request["end"] == "crash":
            os.kill(os.getpid(), signal.SIGSEGV)
        if request["end"] == "hang":
            time.sleep(1000)
    return Outcome(status=Status.OK, result=ProbeResult(measured_s=0.0))


if __name__ == "__main__":
    descriptor, parent = map(int, sys.argv[1:])
    end_with(parent)
    serve.answer = answer
    end_with(parent, signal.SIGCONT)
    serve.serve(socket.socket(fileno=descriptor))
