"""The child process that notes launches: ``python -m bench.studies.launches.noting``.

It reads a request from standard input and writes a line of JSON per call. Without the card a launch
does nothing, so results of the calls are garbage and are dropped; no oracle and no clock is near.
Where the card is, launches are made and noted in the same words, to compare.

Besides the device class, the only file of bench that uses ``torch.cuda``: in this process it
replaces functions there, so that wrappers of kernels run without a card. Written for triton 3.6 to
3.9, whose internals only the part on Triton uses.
"""

from __future__ import annotations

import collections
import importlib
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from importlib.machinery import ModuleSpec
from importlib.metadata import PackageNotFoundError, version
from importlib.util import module_from_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

REGISTERS = 65_536
"""Registers available to a block on every card since compute capability 8.0."""
THREADS, WARP, _WORD = 1_024, 32, 4

Facts = dict[str, Any]

_GRID = (2**31 - 1, 65_535, 65_535)
_ALLOCATING = ("empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided")


class Noted:
    """Launches of one call, and the limits of the card that they are for.

    Attributes:
        launches: one per configuration of each launch.
        phase: forward or backward.
        all_configs: whether to note every configuration of a tuned kernel, not only the first.
    """

    def __init__(self, card: Facts, all_configs: bool = False) -> None:
        self.card, self.phase, self.all_configs = card, "forward", all_configs
        self.launches: list[Facts] = []
        self._number, self._is_tuning = 0, False

    def add(self, kernel: str, **facts: Any) -> None:
        """Note a launch, or one more configuration of it, and whether the card would refuse it."""
        self._number += not self._is_tuning
        if "grid" in facts:
            facts["refused"] = self.refusal(
                facts["grid"], facts["warps"], facts["registers"], facts["shared_bytes"]
            )
        place = {"launch": self._number, "phase": self.phase, "kernel": kernel}
        self.launches.append(place | facts)

    @contextmanager
    def one_launch(self) -> Iterator[Noted]:
        """Within the block, count everything that is added as a configuration of one launch."""
        self._number, self._is_tuning = self._number + 1, True
        try:
            yield self
        finally:
            self._is_tuning = False

    def refusal(self, grid: tuple[int, ...], warps: int, registers: int, shared: int) -> str:
        """Why the card would refuse a launch; empty if it would not."""
        # Registers are allocated to a warp in units of 256.
        needed = warps * -(-registers // 8) * 8 * WARP
        limits = [(f"grid {a}", n, most) for a, n, most in zip("xyz", grid, _GRID, strict=True)]
        limits += [("threads", warps * WARP, THREADS), ("registers", needed, REGISTERS)]
        limits += [("bytes of shared memory", shared, self.card["shared_bytes"])]
        return next((f"{what} {n:,} > {most:,}" for what, n, most in limits if n > most), "")


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


def stand_in_for_flash_attn(noted: list[Noted]) -> None:
    """Let wrappers import a stand-in for flash-attn, whose launches are noted without facts."""

    class Softmax(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            noted[-1].add("flash-attn", refused="")
            ctx.save_for_backward(q, k, v)
            return q.new_empty(*q.shape[:-1], v.shape[-1])

        @staticmethod
        def backward(ctx: Any, *_: Any) -> tuple[Tensor, ...]:
            noted[-1].add("flash-attn", refused="")
            return tuple(map(torch.empty_like, ctx.saved_tensors))

    def forward(q: Tensor, k: Tensor, v: Tensor, **_: Any) -> tuple[Any, ...]:
        out = Softmax.apply(q, k, v)  # type: ignore[no-untyped-call]
        return out, q.new_empty(q.shape[1], len(q), dtype=torch.float32), None, None

    def backward(**_: Any) -> None:
        noted[-1].add("flash-attn", refused="")

    names = ("flash_attn", "flash_attn.flash_attn_interface")
    package, interface = (module_from_spec(ModuleSpec(name, None)) for name in names)
    for name in ("flash_attn_func", "flash_attn_varlen_func"):
        setattr(package, name, lambda q, k, v, *_, **__: forward(q, k, v)[0])
    vars(interface).update(_flash_attn_varlen_forward=forward, _flash_attn_varlen_backward=backward)
    sys.modules.update({module.__name__: module for module in (package, interface)})


# --- Triton --------------------------------------------------------------------------------------


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


# --- calls ---------------------------------------------------------------------------------------


def called(asked: Facts) -> Callable[..., Any]:
    """The operator of a call, or its mechanism's class.

    Raises:
        ImportError, AttributeError, ValueError: there is no such operator or mechanism.
    """
    from attentions import attention_class

    for plugin in asked["plugins"]:
        importlib.import_module(plugin)
    if not asked["operator"]:
        return attention_class(asked["mechanism"])
    place, _, name = asked["operator"].partition(":")
    found: Any = getattr(importlib.import_module(place), name)
    if not callable(found):
        raise ValueError(f"{asked['operator']} is not a function")
    return found  # type: ignore[no-any-return]


def make_call(asked: Facts, note: Noted, device: torch.device) -> Facts:
    """Call a mechanism or an operator once; returns torch's operators and bytes of temporaries."""
    from attentions import build_attention
    from bench.core.cell import KernelWorkload
    from bench.measuring import inputs
    from bench.measuring.building import geometry_of
    from bench.measuring.drawn_gates import gates_of

    call: Any = called(asked)
    names = ("batch_size", "num_heads", "num_kv_heads", "head_dim", "seq_len", "dtype", "mode")
    causal = True if asked["operator"] else call.capabilities.causal
    workload = KernelWorkload(causal=causal, scope="core", **{name: asked[name] for name in names})
    dtype, gates, layout = getattr(torch, asked["dtype"]), None, "bhnd"
    leaves: list[Tensor] = []
    if not asked["operator"]:
        call = build_attention(asked["mechanism"], geometry_of(workload), **asked["settings"])
        call = call.to(device, dtype).train(workload.has_backward)
        gates, layout = gates_of(call), call.capabilities.memory_layout
        leaves += call.parameters()
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
    kept += sum(x.grad.nbytes for x in (*given, *leaves) if x.grad is not None)
    temporary = max(0, counted.bytes - kept)
    return {"torch_operators": counted.operators, "temporary_bytes": temporary}


def main() -> None:
    """Answer a request: its calls, one after the other."""
    answers, sys.stdout = sys.stdout, sys.stderr  # packages print, which must not mix with answers
    request = json.load(sys.stdin)
    noted: list[Noted] = []
    if request["device"] is None:
        pretend(request["card"])
        stand_in_for_flash_attn(noted)
    watch(noted)
    for asked in request["calls"]:
        try:
            called(asked)
        except Exception as error:
            mistake = f"{asked['entry']} cannot be called: {type(error).__name__}: {error}"
            print(json.dumps({"mistake": mistake}), file=answers, flush=True)
            return
    known = versions()
    for package in ("torch", "fla-core", "flash-linear-attention"):
        try:
            known[package] = version(package)
        except PackageNotFoundError:
            continue
    for asked in request["calls"]:
        noted.append(Noted(request["card"], asked["configs"] == "all"))
        try:
            found = make_call(asked, noted[-1], torch.device(request["device"] or "cpu"))
        except Exception as error:
            found = {"error": f"{type(error).__name__}: {error}"}
        line = asked | found | {"launches": noted[-1].launches, "versions": known}
        print(json.dumps(line), file=answers, flush=True)


if __name__ == "__main__":
    main()
