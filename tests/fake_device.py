"""A fake card: its tensors lie on the CPU; its clock, memory and power meter are set numbers."""

import torch

from bench.measuring.device import Device, device_named
from bench.measuring.device.base import Profile, recorded, sdpa_kernel


class FakeDevice(Device):
    """One of several cards.

    Attributes:
        num_cards: how many there are.
        call_s: seconds of a call by its clock; None to use the wall clock.
        total_bytes: its memory.
        call_bytes: what each call allocates of it at its peak.
        kept_bytes: what each call leaves allocated.
        lacks: dtypes that it does not compute in.
        log: calls of some methods, in order, on any of the cards.
    """

    kind = "cuda"
    num_cards = 2
    call_s: float | None = 0.25
    total_bytes = 2**30
    call_bytes = 2**20
    kept_bytes = 0
    lacks: tuple[str, ...] = ()
    log: list[str] = []  # noqa: RUF012

    held = 0
    """Bytes that are allocated now."""
    stream = 0
    """Numbers drawn so far."""

    @classmethod
    def present(cls):
        return tuple(f"{cls.kind}:{index}" for index in range(cls.num_cards))

    @property
    def place(self):
        return torch.device("cpu")

    @property
    def title(self):
        return "Fake 9000"

    @property
    def identity(self):
        return f"Fake 9000 number {self.name}"

    @property
    def driver(self):
        return "1.0"

    def _used(self, call):
        """Wrap a call, so that it takes memory of the fake card."""

        def counted():
            if type(self).held + self.call_bytes > self.total_bytes:
                raise torch.OutOfMemoryError(f"{self.name} out of memory")
            type(self).held += self.kept_bytes
            return call()

        return counted

    def time_calls(self, call, count):
        if self.call_s is None:
            return device_named("cpu").time_calls(self._used(call), count)
        for _ in range(count):
            self._used(call)()
        return count * self.call_s

    def synchronize(self):
        self.log.append("synchronize")

    def profile(self, call):
        events = recorded(self._used(call), memory=False)
        return Profile(
            peak_bytes=self.call_bytes, sdpa_kernel=sdpa_kernel(e.name() for e in events)
        )

    def leaked_bytes(self, call, num_calls):
        return super().leaked_bytes(self._used(call), num_calls)

    def held_bytes(self):
        return type(self).held

    def free_bytes(self):
        return self.total_bytes

    def stream_state(self):
        return super().stream_state() | {self.kind: torch.tensor(type(self).stream)}

    def restore_streams(self, state):
        super().restore_streams(state)
        type(self).stream = int(state[self.kind])

    def readings(self):
        self.log.append("readings")
        return {"power_w": 100.0, "power_cap_w": 350.0}

    def energy_j(self, call):
        call()
        return 2.0

    def imitates(self, dtype):
        return "it is a fake." if dtype in self.lacks else None


class WallCard(FakeDevice):
    """The same with the wall clock: parents refuse a worker whose times differ from it."""

    call_s = None


class WallMps(WallCard):
    """A device of a kind that bench does not know."""

    kind = "mps"
    num_cards = 1
