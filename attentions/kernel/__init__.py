"""Tiles for `KernelCore`: sums over keys, causal sums, derivatives of feature maps, depthwise."""

from .depthwise import convolve_grid

__all__ = ["convolve_grid"]
