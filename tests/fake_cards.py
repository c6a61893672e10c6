"""A plugin that registers two fake cards under the name ``cuda``, in every process."""

from bench.measuring.device import KINDS
from tests.fake_device import WallCard

KINDS["cuda"] = WallCard
