"""A plugin that registers fake devices in every process: two cards, and one of a new kind."""

from bench.measuring.device import KINDS
from tests.fake_device import WallCard, WallMps

KINDS |= {"cuda": WallCard, "mps": WallMps}
