"""Everything that uses Triton's internals, and a simulated card for Triton and torch.

Besides the device class, the only file of bench that uses ``torch.cuda``: in the separate process
of `noting` it replaces functions there, so that wrappers of kernels run without a card. Written for
triton 3.6 to 3.9.
"""

from __future__ import annotations

import collections
import re
import subprocess
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import torch

REGISTERS = 65_536
"""Registers available to a block on every card since compute capability 8.0."""
THREADS, WARP, _WORD = 1_024, 32, 4

Facts = dict[str, Any]


def pretend(card: Facts) -> None:
    """Simulate a card of cards.yaml for Triton and for the wrappers above it.

    Kernels are compiled for the card, and launches do nothing.
    """
    from triton.backends.compiler import GPUTarget
    from triton.compiler import compiler
    from triton.runtime import driver

    class Utils:
        loaded = 0

        def get_device_properties(self, device: int) -> Facts:
            sizes = {"max_shared_mem": card["shared_bytes"], "max_num_regs": REGISTERS}
            return sizes | {"multiprocessor_count": card["multiprocessors"], "warpSize": WARP}

        def load_binary(self, name: str, cubin: bytes, shared: int, device: int) -> tuple[Any, ...]:
            said = re.search(r"REG:(\d+) STACK:(\d+)", _said_of(cubin, "cuobjdump", "-res-usage"))
            if said is None:
                raise RuntimeError(f"cuobjdump says nothing of the registers of {name}")
            self.loaded += 1
            return None, self.loaded, int(said[1]), int(said[2]) // _WORD, THREADS

        def unload_module(self, module: Any) -> None: ...

    class Launcher:
        def __init__(self, source: Any, metadata: Any) -> None: ...

        def __call__(self, *launch: Any) -> None: ...

    class Driver:
        utils, launcher_cls = Utils(), Launcher

        def __getattr__(self, name: str) -> Any:
            plain = {"get_current_device": 0, "get_current_stream": 0}
            return lambda *_, **__: plain.get(name)

        def get_current_target(self) -> Any:
            return GPUTarget("cuda", card["arch"], WARP)

        def get_active_torch_device(self) -> torch.device:
            return torch.device("cuda", 0)

        def get_device_interface(self) -> Any:
            return torch.cuda

    driver.set_active(Driver())
    compiler.max_shared_mem = lambda device: 2**40  # else it raises; refusals are noted instead
    torch.cuda.device_count = lambda: 1
    torch.cuda.get_device_name = lambda device=None: card["name"]
    torch.cuda.get_device_capability = lambda device=None: divmod(card["arch"], 10)


def watch(noted: list[Any]) -> None:
    """Note launches in the last item of a list, with the driver's facts on each kernel."""
    from triton.runtime import driver
    from triton.runtime.autotuner import Autotuner

    active = driver.active
    known: dict[Any, tuple[str, Facts]] = {}
    load, launcher = active.utils.load_binary, active.launcher_cls

    def load_binary(name: str, cubin: bytes, *others: Any) -> Any:
        loaded = load(name, cubin, *others)
        facts = {"registers": loaded[2], "spilled_bytes": loaded[3] * _WORD}
        known[loaded[1]] = name, facts | {"matrix": _matrix_instructions(cubin)}
        return loaded

    class Watched(launcher):  # type: ignore[misc, valid-type]
        def __init__(self, source: Any, metadata: Any) -> None:
            super().__init__(source, metadata)
            self.made = metadata

        def __call__(self, x: int, y: int, z: int, stream: int, function: Any, *rest: Any) -> Any:
            name, facts = known[function]
            sizes = {"warps": self.made.num_warps, "shared_bytes": self.made.shared}
            noted[-1].add(name, grid=(x, y, z), **sizes, **facts)
            return super().__call__(x, y, z, stream, function, *rest)

    def run(tuner: Any, *args: Any, **kwargs: Any) -> None:
        """Launch in the first configuration that the card takes, or once in each; untimed."""
        tuner.nargs = dict(zip(tuner.arg_names, args, strict=False))
        with noted[-1].one_launch() as note:
            for config in tuner.prune_configs(kwargs):
                if config.pre_hook is not None:
                    config.pre_hook({**tuner.nargs, **kwargs, **config.all_kwargs()})
                try:
                    tuner.fn.run(*args, **kwargs, **config.all_kwargs())
                except Exception as error:  # on a card, a tuner leaves this configuration out too
                    why = f"does not compile: {type(error).__name__}"
                    note.add(tuner.base_fn.__name__, refused=why)
                note.launches[-1]["config"] = str(config)
                if not (note.all_configs or note.launches[-1]["refused"]):
                    return

    active.utils.load_binary, active.launcher_cls, Autotuner.run = load_binary, Watched, run


def _tools() -> Path:
    import triton

    return Path(triton.__file__).parent / "backends/nvidia/bin"


def _said_of(cubin: bytes, tool: str, option: str) -> str:
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        words = [str(_tools() / tool), option, file.name]
        done = subprocess.run(words, capture_output=True, text=True, check=True)
    return done.stdout + done.stderr


@cache
def _matrix_instructions(cubin: bytes) -> dict[str, int]:
    """Instructions for tensor cores in the code, by kind."""
    line = r"^\s*/\*[0-9a-f]+\*/\s+(?:@!?U?P\w+\s+)?([A-Z0-9]+MMA)\b"
    return dict(collections.Counter(re.findall(line, _said_of(cubin, "nvdisasm", "-c"), re.M)))


def versions() -> dict[str, str]:
    """Versions of Triton and of the assembler that it ships."""
    import triton

    words = [str(_tools() / "ptxas"), "--version"]
    told = subprocess.run(words, capture_output=True, text=True, check=False).stdout
    return {"triton": triton.__version__, "ptxas": (re.findall(r"V([\d.]+)", told) or ["?"])[0]}
