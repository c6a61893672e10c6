"""A process that tries one member, times a block or trains: JSON lines in, JSON lines out.

``python -m bench.measuring.worker FD PARENT`` is a server with torch loaded. Each request on its
control socket makes it fork; the child gets a socket of its own, reads one request, answers in
lines, and ends. Nothing that a member does, crash, hang or leak, reaches another worker;
`processes` ends what it started.

`serve` forks, `answer` does a job and turns whatever goes wrong in it into a status, and each job
is a file: `build`, `estimate`, `trial`, `rounds`, `versus`, `train`, `ceiling`. These import what
they measure with inside their functions: `preload` alone decides what a worker has loaded when it
is forked. `results` and `outcome` are what comes back, the same types on both sides of the socket.

Lines sent: ``{"step": name}`` before each step, so that a hang can be told from long work;
``{"round": [seconds, ...]}`` after each round; ``{"progress": [phase, step, num_steps, loss]}`` in
training; last ``{"status": ..., "reason": ..., "detail": ..., "result": {...}}``.
"""
