"""Comparison with the authors' numbers, which golden files hold."""
