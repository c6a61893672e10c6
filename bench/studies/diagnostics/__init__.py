"""Diagnostics of a mechanism's weights: `weights` takes them, `measures` computes the numbers."""
