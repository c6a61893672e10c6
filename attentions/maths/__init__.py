"""Formulas that several mechanisms share: differentiable, on any device."""
