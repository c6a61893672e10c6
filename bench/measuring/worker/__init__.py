"""Worker processes: each does one job, such as a trial, and talks in JSON lines over a socket.

``python -m bench.measuring.worker FD PARENT`` is a server with torch loaded. Each request on its
control socket makes it fork; the child gets a socket of its own, reads one request, answers in
lines, and ends. No crash, hang or leak of a member reaches another worker; `processes` ends the
processes that it started.

`serve` forks, `answer` does a job and turns every failure into a status, and each job is a
function in its file: `build`, `estimate`, `trial`, `rounds` (with `probe`), `paired_rounds` (in
`paired`), `train`, `ceiling`. These import the modules that they measure with inside their
functions: `preload` alone decides what a worker has loaded when it is forked. `results` and
`outcome` hold the types of answers on both sides of the socket.

Lines sent: ``{"step": name}`` before each step, so that a hang can be told from long work;
``{"asked": index}`` and ``{"refused": reason}`` from `build`; ``{"round": [seconds, ...]}`` after
each round; ``{"ratio": current_over_base}`` from `paired_rounds`; ``{"progress": [phase, step,
num_steps, loss, score]}`` in training; last ``{"status": ..., "reason": ..., "detail": ...,
"result": {...}}``.
"""
