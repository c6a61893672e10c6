"""Grids of image patches and class tokens."""
