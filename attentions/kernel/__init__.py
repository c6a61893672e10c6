"""Tiles for `KernelCore`: sums over keys, causal sums, derivatives of feature maps."""
