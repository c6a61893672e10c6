"""Trained softmax models whose layers are exchanged for another mechanism."""
