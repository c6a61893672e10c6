"""The child process that notes launches; every private name of Triton is in this file.

``python -m bench.studies.launches.noting REQUEST ANSWERS`` reads what to call, and writes a line of
JSON per call. Triton gets a driver that compiles for the card, and notes a launch instead of making
it. Results of the calls are therefore garbage and are dropped; no oracle and no clock is near.
Where the card is present, launches can be made and noted in the same words, to compare.
Written for triton 3.6 to 3.9.
"""

from __future__ import annotations

import collections
import importlib
import json
import re
import subprocess
import sys
import tempfile
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

_GRID = (2**31 - 1, 65_535, 65_535)
_REGISTERS = 65_536
"""Registers of a block, allocated to a warp by 256, on every card since compute capability 8.0."""
_THREADS, _WARP, _WORD = 1_024, 32, 4
_ALLOCATING = ("empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided")

Facts = dict[str, Any]


class Noted:
    """Launches of one call, and limits of the card that they are for.

    Attributes:
        launches: one per configuration of each launch.
        phase: forward or backward.
        number: of the launch; its configurations share it.
    """

    def __init__(self, card: Facts) -> None:
        self.card, self.phase = card, "forward"
        self.launches: list[Facts] = []
        self.number, self.is_tuning = 0, False

    def add(self, kernel: str, **facts: Any) -> None:
        """Note a launch, or one more configuration of it."""
        self.number += not self.is_tuning
        self.launches.append(
            {"launch": self.number, "phase": self.phase, "kernel": kernel, **facts}
        )

    def launched(self, grid: tuple[int, int, int], made: Any, name: str, facts: Facts) -> None:
        """Note a launch of what Triton has made."""
        refused = self.refusal(grid, made.num_warps, facts["registers"], made.shared)
        sizes = {"grid": grid, "warps": made.num_warps, "shared_bytes": made.shared}
        self.add(name, **sizes, refused=refused, **facts)

    def refusal(self, grid: tuple[int, ...], warps: int, registers: int, shared: int) -> str:
        """Why the card would refuse a launch; empty if it would not."""
        for axis, size, most in zip("xyz", grid, _GRID, strict=True):
            if size > most:
                return f"grid {axis} {size:,} > {most:,}"
        if warps * _WARP > _THREADS:
            return f"threads {warps * _WARP:,} > {_THREADS:,}"
        if (needed := warps * -(-registers // 8) * 8 * _WARP) > _REGISTERS:
            return f"registers {needed:,} > {_REGISTERS:,}"
        if shared > self.card["shared_bytes"]:
            return f"shared memory {shared:,} B > {self.card['shared_bytes']:,} B"
        return ""


class Counted(TorchDispatchMode):
    """Counts operators of torch that compute something, and the bytes that they allocate."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.operators = self.bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        given = {_address(x) for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)}
        results = [x for x in tree_leaves(out) if isinstance(x, Tensor)]
        fresh = {_address(x): x.untyped_storage().nbytes() for x in results}
        new = [size for address, size in fresh.items() if address not in given]
        self.bytes += sum(new)
        computes = bool(new) and func.overloadpacket.__name__ not in _ALLOCATING
        self.operators += computes or func._schema.is_mutable
        return out


def _address(x: Tensor) -> int:
    return x.untyped_storage().data_ptr()


# --- Triton -------------------------------------------------------------------------------------


def pretend(card: Facts, noted: list[Noted], all_configs: bool) -> None:
    """Let Triton, and the wrappers above it, take this process for one with the card.

    Args:
        card: an entry of cards.yaml.
        noted: its last item gets the launches.
        all_configs: note every configuration of a tuned kernel, not only the first.
    """
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import compiler
    from triton.runtime import driver

    tools = Path(triton.__file__).parent / "backends/nvidia/bin"

    class Utils:
        def get_device_properties(self, device: int) -> Facts:
            sizes = {"max_shared_mem": card["shared_bytes"], "warpSize": _WARP}
            return sizes | {
                "multiprocessor_count": card["multiprocessors"],
                "max_num_regs": _REGISTERS,
            }

        def load_binary(self, name: str, cubin: bytes, shared: int, device: int) -> tuple[Any, ...]:
            facts = resources(cubin, tools)
            words = facts["spilled_bytes"] // _WORD
            return 1, (name, facts), facts["registers"], words, _THREADS

        def unload_module(self, module: Any) -> None: ...

    class Launcher:
        def __init__(self, source: Any, metadata: Any) -> None:
            self.metadata = metadata

        def __call__(self, x: int, y: int, z: int, stream: int, function: Any, *_: Any) -> None:
            noted[-1].launched((x, y, z), self.metadata, *function)

    class Driver:
        utils, launcher_cls = Utils(), Launcher

        def __getattr__(self, name: str) -> Any:
            plain = {"get_current_device": 0, "get_current_stream": 0}
            return lambda *_, **__: plain.get(name)

        def get_current_target(self) -> Any:
            return GPUTarget("cuda", card["arch"], _WARP)

        def get_active_torch_device(self) -> torch.device:
            return torch.device("cuda", 0)

        def get_device_interface(self) -> Any:
            return torch.cuda

    driver.set_active(Driver())
    compiler.max_shared_mem = lambda device: 2**40  # it would raise, and we name what is refused
    take_configurations(noted, all_configs)
    torch.cuda.device_count = lambda: 1
    torch.cuda.get_device_name = lambda device=None: card["name"]
    torch.cuda.get_device_capability = lambda device=None: divmod(card["arch"], 10)


def watch(noted: list[Noted], all_configs: bool) -> None:
    """Note the launches that are really made, with what the driver says of each kernel."""
    from triton.runtime import driver

    active = driver.active
    load, launcher = active.utils.load_binary, active.launcher_cls
    known: dict[Any, tuple[str, Facts]] = {}

    def load_binary(name: str, *binary: Any) -> Any:
        loaded = load(name, *binary)
        facts = {"registers": loaded[2], "spilled_bytes": loaded[3] * _WORD, "matrix": {}}
        known[id(loaded[1]) if isinstance(loaded[1], tuple) else loaded[1]] = (name, facts)
        return loaded

    class Watched(launcher):  # type: ignore[misc, valid-type]
        def __init__(self, source: Any, metadata: Any) -> None:
            super().__init__(source, metadata)
            self.made = metadata

        def __call__(self, x: int, y: int, z: int, stream: int, function: Any, *rest: Any) -> Any:
            key = id(function) if isinstance(function, tuple) else function
            noted[-1].launched((x, y, z), self.made, *known[key])
            return super().__call__(x, y, z, stream, function, *rest)

    active.utils.load_binary, active.launcher_cls = load_binary, Watched
    take_configurations(noted, all_configs)


def take_configurations(noted: list[Noted], all_configs: bool) -> None:
    """Let a tuned kernel be launched in its first configuration, or once in each, untimed."""
    from triton.runtime.autotuner import Autotuner

    def run(tuner: Any, *args: Any, **kwargs: Any) -> Any:
        note = noted[-1]
        tuner.nargs = dict(zip(tuner.arg_names, args, strict=False))
        note.number, note.is_tuning = note.number + 1, True
        try:
            for config in tuner.prune_configs(kwargs):
                if config.pre_hook is not None:
                    config.pre_hook({**tuner.nargs, **kwargs, **config.all_kwargs()})
                try:
                    tuner.fn.run(*args, **kwargs, **config.all_kwargs())
                except Exception as error:  # this one is left out by a tuner on a card, too
                    why = f"does not compile: {type(error).__name__}"
                    note.add(tuner.base_fn.__name__, refused=why)
                note.launches[-1]["config"] = str(config)
                if not (all_configs or note.launches[-1]["refused"]):
                    return
        finally:
            note.is_tuning = False

    Autotuner.run = run


@cache
def resources(cubin: bytes, tools: Path) -> Facts:
    """Registers and local memory of a thread, and matrix instructions by kind, in the binary."""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        usage, code = (
            subprocess.run(
                [tools / words[0], *words[1:], file.name], capture_output=True, text=True
            )
            for words in (("cuobjdump", "-res-usage"), ("nvdisasm", "-c"))
        )
    said = re.search(r"REG:(\d+) STACK:(\d+)", usage.stdout + usage.stderr)
    if said is None or code.returncode:
        raise RuntimeError(f"unreadable binary: {usage.stderr.strip()} {code.stderr.strip()}")
    line = r"^\s*/\*[0-9a-f]+\*/\s+(?:@!?U?P\w+\s+)?([A-Z0-9]+)"
    kinds = collections.Counter(re.findall(line, code.stdout, re.M))
    return {
        "registers": int(said[1]),
        "spilled_bytes": int(said[2]),
        "matrix": {kind: count for kind, count in kinds.items() if kind.endswith("MMA")},
    }


def versions() -> dict[str, str]:
    """Versions of everything that decides what is compiled."""
    import triton

    ptxas = Path(triton.__file__).parent / "backends/nvidia/bin/ptxas"
    told = subprocess.run([ptxas, "--version"], capture_output=True, text=True).stdout
    found = {"triton": triton.__version__, "ptxas": (re.findall(r"V([\d.]+)", told) or ["?"])[0]}
    for package in ("torch", "fla-core", "flash-linear-attention"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


# --- calls --------------------------------------------------------------------------------------


def make_call(asked: Facts, note: Noted, device: torch.device) -> Facts:
    """Call a mechanism or an operator once; returns what torch did beside the launches."""
    from attentions import Geometry, attention_class, build_attention
    from bench.core.cell import KernelWorkload
    from bench.measuring import inputs
    from bench.measuring.token_gates import gates_of

    sizes = {name: asked[name] for name in ("num_heads", "head_dim", "seq_len")}
    for plugin in asked["plugins"]:
        importlib.import_module(plugin)
    module, gates, is_causal = None, None, True
    if asked["operator"]:
        place, _, name = asked["operator"].partition(":")
        call = getattr(importlib.import_module(place), name)
    else:
        is_causal = attention_class(asked["mechanism"]).capabilities.causal
        geometry = Geometry(causal=is_causal, **sizes)
        module = build_attention(asked["mechanism"], geometry, **asked["settings"])
        call = module.to(device, getattr(torch, asked["dtype"])).train(asked["mode"] != "forward")
        gates = gates_of(module)
    workload = KernelWorkload(
        batch_size=asked["batch_size"],
        dtype=asked["dtype"],
        mode=asked["mode"],
        causal=is_causal,
        scope="core",
        **sizes,
    )
    dtype = getattr(torch, asked["dtype"])
    layout = module.capabilities.memory_layout if module is not None else "bhnd"
    *given, cotangent = inputs.make(
        workload, seed=0, dtype=dtype, device=device, layout=layout, gates=gates
    )
    named = dict(zip(gates.names, given[3:], strict=True)) if gates else {}
    with torch.set_grad_enabled(workload.has_backward), Counted() as counted:
        out = call(*given[:3], **named)
        out = out[0] if isinstance(out, tuple) else out
        kept = out.untyped_storage().nbytes()
        if workload.has_backward:
            note.phase = "backward"
            out.backward(cotangent.to(out.dtype))
    leaves = [*given, *(module.parameters() if module is not None else ())]
    kept += sum(x.grad.nbytes for x in leaves if x.grad is not None)
    return {
        "torch_operators": counted.operators,
        "temporary_bytes": max(0, counted.bytes - kept),
    }


def main() -> None:
    """Answer a request: its calls, one after the other."""
    request, answers = json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[2])
    noted: list[Noted] = []
    if request.get("device", "cpu") == "cpu":
        pretend(request["card"], noted, request["configs"] == "all")
    else:
        watch(noted, request["configs"] == "all")
    known = versions()
    for asked in request["calls"]:
        noted.append(Noted(request["card"]))
        try:
            found = make_call(asked, noted[-1], torch.device(request.get("device", "cpu")))
        except Exception as error:
            found = {"error": f"{type(error).__name__}: {error}"}
        line = asked | found | {"launches": noted[-1].launches, "versions": known}
        with answers.open("a") as file:
            file.write(json.dumps(line) + "\n")


if __name__ == "__main__":
    main()
