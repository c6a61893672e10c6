"""Measure the ceilings of a device: its best rates, which calls are compared with."""

from __future__ import annotations

from bench.measuring.device import device_named
from bench.measuring.worker.channel import Channel
from bench.measuring.worker.request import Request
from bench.measuring.worker.results import CeilingResult


def ceiling(request: Request, channel: Channel) -> CeilingResult:
    """Measure the best rates of a device in one dtype with a number of threads."""
    from dataclasses import asdict

    import torch

    from bench.measuring.measure import load
    from bench.measuring.measure.roofline import GLANCE, THOROUGH, measure_ceiling

    device = device_named(request["device"])
    if request["num_threads"] is not None:
        torch.set_num_threads(request["num_threads"])
    channel.send(step="products and copies")
    before = load.snapshot()
    effort = GLANCE if request.get("at_a_glance") else THOROUGH
    found = measure_ceiling(device, getattr(torch, request["dtype"]), device, effort)
    after = load.snapshot()
    is_noisy = load.is_noisy(load.between(before, after))
    measured_s = after.wall_s - before.wall_s
    return CeilingResult(**asdict(found), is_noisy=is_noisy, measured_s=measured_s)
