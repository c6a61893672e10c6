"""Kernel attention from feature maps: tile by tile on a CPU, by the plain formula elsewhere."""

from .attention import attend
from .causal import causal_flops
from .depthwise import convolve_grid
from .maps import FeatureMap, Parts

__all__ = ["FeatureMap", "Parts", "attend", "causal_flops", "convolve_grid"]
