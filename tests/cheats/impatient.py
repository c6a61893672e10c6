"""`python -m tests.cheats.impatient WORD …`: attnbench, whose imports may take three seconds."""

import runpy
import sys

from bench.measuring import plugins
from bench.measuring.worker import launch

plugins.IMPORT_TIMEOUT_S = 3.0
launch.SERVER_MODULE = "tests.cheats.impatient"

if __name__ == "__main__":
    is_server = sys.argv[1].isdigit()  # which is given its descriptor, and not a command
    runpy.run_module(f"bench{'.measuring.worker' * is_server}", run_name="__main__")
