"""A plugin that puts two cards that are none behind the name ``cuda``, in every process."""

from bench.measuring.device import KINDS
from tests.fake_device import WallCard

KINDS["cuda"] = WallCard
