import os
import subprocess
import sys
from pathlib import Path

from bench.measuring.worker.preload import quiet_stderr

ROOT = Path(__file__).resolve().parents[4]


def test_nothing_is_said_below_python_while_it_is_quiet(capfd):
    os.write(2, b"before ")
    with quiet_stderr():
        os.write(2, b"within ")
    os.write(2, b"after")
    assert capfd.readouterr().err == "before after"


def test_the_jobs_load_no_torch_so_that_preloading_alone_decides_what_a_worker_holds():
    code = (
        "import sys, bench.measuring.worker.serve as _; "
        "sys.exit(any(name.partition('.')[0] == 'torch' for name in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False)
    assert done.returncode == 0
