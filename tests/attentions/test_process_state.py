"""A call changes nothing that belongs to the process: what runs beside it would feel it."""

import random

import torch

from attentions import AttentionLayer, Geometry, attention_class, attention_names, build_attention

NAMES = [n for n in attention_names() if not attention_class(n).capabilities.requires]
N, H, D = 16, 2, 8


def state():
    return {
        "threads": (torch.get_num_threads(), torch.get_num_interop_threads()),
        "modes": (torch.is_grad_enabled(), torch.is_inference_mode_enabled()),
        "autocast": torch.is_autocast_enabled("cpu"),
        "default dtype": torch.get_default_dtype(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "matmul precision": torch.get_float32_matmul_precision(),
        "denormals are kept": (torch.tensor(1e-40) * 0.5).item() != 0,
        "random": (torch.get_rng_state().sum().item(), hash(random.getstate())),
    }


def call(name):
    can = attention_class(name).capabilities
    geometry = Geometry(num_heads=H, head_dim=D, seq_len=N, causal=not can.bidirectional)
    small = {"agent": {"num_agents": 4}, "nystromformer": {"num_landmarks": 4}}
    settings = small.get(name.partition("_")[0], {})
    mechanism = build_attention(name, geometry, **settings)
    is_layer = isinstance(mechanism, AttentionLayer)
    before = state()
    trains = "cpu" in can.backward_devices
    shape, count = ((1, N, H * D), 1) if is_layer else ((1, H, N, D), 3)
    tensors = [torch.full(shape, 0.5, requires_grad=trains) for _ in range(count)]
    out = mechanism(*tensors)
    if trains:
        out.sum().backward()
    if can.recurrent and geometry.causal:
        start = mechanism.init_state(1, dtype=torch.float32, device=out.device)
        mechanism.step(*(x.detach() for x in tensors), start)
    assert state() == before, name


def refuse(*_):
    raise AssertionError("a call sets the number of threads")


def test_a_call_leaves_the_state_of_the_process_alone(monkeypatch):
    for name in ("set_num_threads", "set_num_interop_threads"):
        monkeypatch.setattr(torch, name, refuse)
    for name in NAMES:
        call(name)
